package redistest

import "go.uber.org/goleak"

// VerifyTestMain is goleak.VerifyTestMain for tests in which servers go away. It
// gives go-redis time after the tests: after many failed dials it has a goroutine
// that tries every second to reach the server, and notices only then that its
// client was closed.
func VerifyTestMain(m goleak.TestingM) { goleak.VerifyTestMain(settling{m}) }

// settling looks for leaks a few times before goleak does.
type settling struct{ goleak.TestingM }

// Run implements goleak.TestingM.
func (m settling) Run() int {
	code := m.TestingM.Run()
	for range 5 { // each look takes about half a second, if there is something to wait for
		if goleak.Find() == nil {
			break
		}
	}
	return code
}
