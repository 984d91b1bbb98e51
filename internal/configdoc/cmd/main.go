// Command cmd brings the configuration table of the guides up to date. go generate
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
	page := flag.String("page", "../docs/configuration.md", "file that holds the table")
	flag.Parse()
	if err := configdoc.Update(*dir, *page); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
