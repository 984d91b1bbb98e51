package arguments_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/arguments"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestErrorNamesTheArgument(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such thing")

	err := error(&arguments.Error{Argument: "event.ID", Reason: "is empty"})
	require.EqualError(t, err, "cache: invalid argument: event.ID is empty")
	require.ErrorIs(t, err, arguments.ErrInvalid)

	err = &arguments.Error{Argument: "v", Reason: "does not marshal to JSON", Err: cause}
	require.EqualError(t, err, "cache: invalid argument: v does not marshal to JSON: no such thing")
	require.ErrorIs(t, err, arguments.ErrInvalid)
	require.ErrorIs(t, err, cause)
}
