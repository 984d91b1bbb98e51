// Package readme replaces generated sections of a Markdown file. A section called
// "x" stands between the lines <!-- x:begin --> and <!-- x:end -->.
package readme

import (
	"fmt"
	"os"
	"strings"
)

// Replace returns text with content in the section called mark.
func Replace(text, mark, content string) (string, error) {
	begin, end := "<!-- "+mark+":begin -->", "<!-- "+mark+":end -->"
	head, rest, ok := strings.Cut(text, begin)
	if !ok {
		return "", fmt.Errorf("readme: %s is missing", begin)
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("readme: %s is missing after %s", end, begin)
	}
	return head + begin + "\n" + content + end + tail, nil
}

// Update puts content into the section of a file. It does not touch a file that
// has it already.
func Update(file, mark, content string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("readme: %w", err)
	}
	text, err := Replace(string(old), mark, content)
	if err != nil || text == string(old) {
		return err
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("readme: %w", err)
	}
	return nil
}

// Check returns an error when the section of a file is not content.
func Check(file, mark, content string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("readme: %w", err)
	}
	text, err := Replace(string(old), mark, content)
	if err == nil && text != string(old) {
		err = fmt.Errorf("readme: the section %q of %s is stale: run make generate", mark, file)
	}
	return err
}
