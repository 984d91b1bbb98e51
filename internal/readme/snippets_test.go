package readme

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const page = "# One\n```go\npackage main\n\nimport (\n\t\"fmt\"\n\tother \"log\"\n)\n\nfunc main() { fmt.Println() }\n```\n" +
	"```sh\n# no heading\nls\n```\n## Two\n```go\nfunc two() { other.Print() }\n```\n```go\nfunc TestTwo(t *testing.T) { two() }\n```\n"

func TestSnippets(t *testing.T) {
	t.Parallel()
	found, err := Snippets(page)
	require.NoError(t, err)
	require.Len(t, found, 3)
	assert.Equal(t, "One", found[0].Section)
	assert.True(t, found[0].IsProgram())
	assert.Equal(t, Snippet{Section: "Two", Code: "func two() { other.Print() }\n"}, found[1])
	assert.False(t, found[1].IsTest())
	assert.True(t, found[2].IsTest())

	_, err = Snippets("```go\nfunc f()")
	require.Error(t, err)
}

func TestSnippetsHaveOutput(t *testing.T) {
	t.Parallel()
	found, err := Snippets("```go\npackage a\n```\nIt prints\n```text\nhello\n```\n```text\nnot this\n```\n" +
		"```go\npackage b\n```\n# Other\n```text\nnor this\n```\n```go\npackage c\n```\n```sh\nls\n```\n```text\nnor this\n```\n")
	require.NoError(t, err)
	require.Len(t, found, 3)
	assert.Equal(t, "hello\n", found[0].Output)
	assert.Empty(t, found[1].Output)
	assert.Empty(t, found[2].Output)
}

func TestPaste(t *testing.T) {
	t.Parallel()
	found, err := Snippets(page)
	require.NoError(t, err)

	file, err := Paste(found, found[1:2])
	require.NoError(t, err)
	assert.Equal(t, "package main\n\nimport other \"log\"\n\nfunc two() { other.Print() }\n", file, "what it uses and no more")
	file, err = Paste(found, found[:2])
	require.NoError(t, err)
	assert.Contains(t, file, "func main()")
	assert.Contains(t, file, `import "fmt"`)
	file, err = Paste(found[1:], found[1:2])
	require.NoError(t, err)
	assert.NotContains(t, file, "import", "what the page does not name is not there")

	_, err = Paste(nil, []Snippet{{Section: "Three", Code: "x := 1\n"}})
	require.ErrorContains(t, err, "Three", "statements alone cannot be pasted")
	_, err = Paste([]Snippet{{Code: "x := 1\n"}}, nil)
	require.Error(t, err)
}
