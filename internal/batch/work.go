package batch

// MaxWork is how much work one pipeline should be for its server, unless a single command
// is more: that answers within milliseconds then, and others have their turn.
const MaxWork = 4 << 20

// written is how much more work it is to write a byte than to read one.
const written = 4

// Work returns how much work a command with these arguments is for its server, which reads
// about so many bytes of values for it, in such bytes.
func Work(args []any, reads int) int {
	size := 0
	for _, arg := range args {
		switch arg := arg.(type) {
		case []byte:
			size += len(arg)
		case string:
			size += len(arg)
		}
	}
	return reads + written*size
}
