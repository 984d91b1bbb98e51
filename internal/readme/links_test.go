package readme

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

const linked = "# A page\n\nSee [one](one.md), [two](#what-failure-means) and\n[three](../x/three.md#a_b), not [four](https://example.com/x)\n" +
	"or `a[5](six)`.\n\n## What `failure` means, in short\n```sh\n# no heading [x](y)\n```\n#hash\n### a_b: c & d\n"

func TestLinks(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"one.md", "#what-failure-means", "../x/three.md#a_b"}, Links(linked))
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	assert.Equal(t, map[string]bool{"a-page": true, "what-failure-means-in-short": true, "a_b-c--d": true}, Anchors(linked))
}
