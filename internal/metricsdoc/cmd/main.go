// Command cmd brings the guides' list of metrics up to date. go generate runs it
// from the root package.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/compozy/cache/internal/metricsdoc"
	"github.com/compozy/cache/internal/readme"
)

func main() {
	file := flag.String("page", "docs/metrics.md", "file that holds the list")
	flag.Parse()
	table, err := metricsdoc.Table()
	if err == nil {
		err = readme.Update(*file, metricsdoc.Mark, table)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
