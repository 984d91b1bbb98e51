package readme

import (
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Snippet is a block of Go code in a Markdown file.
type Snippet struct {
	Section string // the heading above it
	Code    string
	Output  string // the block of kind text that comes next, if one does before other code or a heading
}

// Snippets returns the Go blocks of a Markdown text in their order.
func Snippets(markdown string) ([]Snippet, error) {
	var found []Snippet
	section, code := "", []string(nil)
	inside, kind := false, ""
	last := -1 // the snippet whose output may come
	for line := range strings.Lines(markdown) {
		fence := strings.HasPrefix(line, "```")
		switch {
		case fence && inside:
			switch text := strings.Join(code, ""); {
			case kind == "go":
				found = append(found, Snippet{Section: section, Code: text})
				last = len(found) - 1
			case kind == "text" && last >= 0:
				found[last].Output, last = text, -1
			default:
				last = -1
			}
			inside, code = false, nil
		case fence:
			inside, kind = true, strings.TrimSpace(strings.Trim(line, "`\n"))
		case inside:
			code = append(code, line)
		case strings.HasPrefix(line, "#"):
			section, last = strings.TrimSpace(strings.TrimLeft(line, "#")), -1
		}
	}
	if inside {
		return nil, errors.New("readme: the last block has no end")
	}
	return found, nil
}

// IsProgram reports whether a snippet stands alone.
func (s Snippet) IsProgram() bool { return strings.HasPrefix(s.Code, "package ") }

// IsTest reports whether a snippet has functions for go test.
func (s Snippet) IsTest() bool { return strings.Contains("\n"+s.Code, "\nfunc Test") }

// Paste returns the file of package main that a reader has after pasting the snippets
// one after the other: with their own imports, and those of the rest of the page that
// they use, as an editor adds them. It knows no other imports, and no variables.
func Paste(page, snippets []Snippet) (string, error) {
	imports := map[string]string{} // by name
	for _, s := range page {
		file, _, err := s.parse()
		if err != nil {
			return "", err
		}
		for _, spec := range file.Imports {
			name, line := importName(spec)
			imports[name] = line
		}
	}
	used := map[string]bool{}
	var body strings.Builder
	for _, s := range snippets {
		file, set, err := s.parse()
		if err != nil {
			return "", err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := selector.X.(*ast.Ident); ok {
					used[x.Name] = true
				}
			}
			return true
		})
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.IMPORT {
				continue
			}
			body.WriteString("\n")
			if err := format.Node(&body, set, d); err != nil {
				return "", fmt.Errorf("readme: %w", err)
			}
			body.WriteString("\n")
		}
	}
	var lines []string
	for name, line := range imports {
		if used[name] {
			lines = append(lines, "import "+line+"\n")
		}
	}
	slices.Sort(lines)
	return "package main\n\n" + strings.Join(lines, "") + body.String(), nil
}

// parse reads a snippet, which is a file, or declarations without a package clause.
func (s Snippet) parse() (*ast.File, *token.FileSet, error) {
	code := s.Code
	if !s.IsProgram() {
		code = "package main\n" + code
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", code, parser.ParseComments)
	if err != nil {
		return nil, nil, fmt.Errorf("readme: under %q: %w\n%s", s.Section, err, s.Code)
	}
	return file, set, nil
}

// importName returns the name by which a file knows an import, and its line.
func importName(spec *ast.ImportSpec) (name, line string) {
	if spec.Name != nil {
		return spec.Name.Name, spec.Name.Name + " " + spec.Path.Value
	}
	unquoted, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		return "", spec.Path.Value // the parser accepts no such path
	}
	return path.Base(unquoted), spec.Path.Value
}
