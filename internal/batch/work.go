package batch

// MaxWork is how much work one pipeline should be for its server, unless a single command
// is more: that answers within milliseconds then, and others have their turn.
const MaxWork = 1 << 20

// Work returns how much work a command with these arguments is for its server, which reads
// about so many bytes of values for it: the bytes that are read or written.
func Work(args []any, reads int) int {
	work := reads
	for _, arg := range args {
		switch arg := arg.(type) {
		case []byte:
			work += len(arg)
		case string:
			work += len(arg)
		}
	}
	return work
}
