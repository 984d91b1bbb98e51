package quorum

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSilenceOfAServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d debt
		<-time.After(time.Minute)
		assert.Zero(t, d.silence(), "it owes nothing")
		d.add()
		<-time.After(time.Second)
		d.add()
		assert.Equal(t, time.Second, d.silence())
		d.settle(false, false)
		assert.Equal(t, time.Second, d.silence(), "a failure is no answer")
		d.settle(true, true)
		<-time.After(time.Millisecond)
		assert.Equal(t, time.Millisecond, d.silence(), "it owes another one, but answers")
		d.settle(true, false)
		assert.Zero(t, d.silence())
		<-time.After(time.Minute)
		d.add()
		assert.Zero(t, d.silence(), "it was not asked meanwhile")
	})
}
