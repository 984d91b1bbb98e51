package publisher

import (
	_ "embed"
	"strconv"
	"strings"

	"github.com/compozy/cache/internal/redisx"
)

//go:embed append.lua
var appendSource string

//go:embed plain.lua
var plainSource string

// steps is into how many parts the bytes of the journal are divided, of which the oldest goes as a new one begins.
const steps = 32

// scripts are the ways to publish.
type scripts struct {
	append *redisx.Script
	plain  *redisx.Script // without history
}

func newScripts(set *Settings, lifetime int64) scripts {
	bytes := max(set.HistoryBytes, steps)
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	numbers := strings.NewReplacer(
		"'SIZE'", "'"+number(int64(set.History))+"'", "'LIFETIME'", "'"+number(lifetime)+"'",
		"% STEP", "% "+number(bytes/steps), "/ STEP", "/ "+number(bytes/steps), ">= STEP", ">= "+number(bytes/steps),
		"BYTES / 2", number(bytes/2),
	)
	return scripts{append: redisx.NewScript(numbers.Replace(appendSource)), plain: redisx.NewScript(plainSource)}
}
