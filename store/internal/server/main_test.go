package server_test

import (
	"testing"

	"github.com/compozy/cache/internal/redistest"
)

func TestMain(m *testing.M) { redistest.VerifyTestMain(m) }
