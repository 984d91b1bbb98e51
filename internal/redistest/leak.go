package redistest

import "go.uber.org/goleak"

// VerifyTestMain is goleak.VerifyTestMain with more time for what is about to end.
// On a busy machine that is any goroutine. Where servers went away it is one of
// go-redis: after many failed dials it tries every second to reach the server, and
// notices only then that its client was closed.
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
