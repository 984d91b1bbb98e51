// Command cmd brings the README's configuration table up to date. go generate
// runs it from the config package.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/compozy/cache/internal/configdoc"
)

func main() {
	dir := flag.String("config", ".", "folder of the config package")
	readme := flag.String("readme", "../README.md", "file that holds the table")
	flag.Parse()
	if err := configdoc.Update(*dir, *readme); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
