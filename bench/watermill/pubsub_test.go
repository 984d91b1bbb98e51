package watermill

import (
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/subscriber"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/compozy/cache/internal/redistest"
	"github.com/compozy/cache/notification"
)

func TestMain(m *testing.M) {
	// What hands on the messages of many subscribers, for some tests, waits for ever with those that nobody takes any more.
	const multiplier = "github.com/ThreeDotsLabs/watermill/internal/subscriber.(*multiplier).Subscribe"
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(multiplier+".func2"), goleak.IgnoreAnyFunction(multiplier+".func3"))
}

// patience is how long a test waits for what should take milliseconds, on a busy machine.
const patience = 20 * time.Second

// start returns a system whose journal holds all that the tests publish.
func start(t *testing.T, server *redistest.Server) *notification.RedisNotificationSystem {
	t.Helper()
	system, err := notification.NewRedisNotificationSystem(server.Client(t), notification.WithHistory(1_000_000, 0))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, system.Close()) })
	return system
}

// constructors returns what makes a publisher and a subscriber, in the group given or in any.
func constructors(
	system *notification.RedisNotificationSystem, group string,
) (tests.PubSubConstructor, tests.ConsumerGroupPubSubConstructor) {
	in := func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
		t.Helper()
		s := &Subscriber{System: system, Group: group}
		t.Cleanup(func() { assert.NoError(t, s.Close()) }) // some tests do not
		return &Publisher{system}, s
	}
	return func(t *testing.T) (message.Publisher, message.Subscriber) {
		t.Helper()
		return in(t, group)
	}, in
}

// universal is one of the tests that Watermill has for all publishers and subscribers.
type universal = func(*testing.T, tests.TestContext, tests.PubSubConstructor)

// suite returns those that tests.TestPubSub runs, but for two: TestReconnect, which has a data race, and has TestRestart here
// in its place; and TestNewSubscriberReceivesOldMessages, which asks for what a group is not for.
func suite() []universal {
	return []universal{
		tests.TestPublishSubscribe, tests.TestConcurrentSubscribe, tests.TestConcurrentSubscribeMultipleTopics,
		tests.TestResendOnError, tests.TestNoAck, tests.TestContinueAfterSubscribeClose, tests.TestConcurrentClose,
		tests.TestContinueAfterErrors, tests.TestPublishSubscribeInOrder, tests.TestPublisherClose, tests.TestTopic,
		tests.TestMessageCtx, tests.TestSubscribeCtx,
	}
}

// run runs tests, each with topics of its own. None of the features that it asks for has it skip anything.
func run(t *testing.T, features tests.Features, constructor tests.PubSubConstructor, all []universal) {
	t.Helper()
	for _, test := range all {
		_, name, _ := strings.Cut(runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name(), "/tests.")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, tests.TestContext{TestID: tests.NewTestID(), Features: features}, constructor)
		})
	}
}

// isShort reports whether tests are to make do with a hundredth of the messages. All of them take a minute or two.
func isShort() bool { return os.Getenv("WATERMILL_FULL") == "" }

// Subscribers that listen get all that there is, in the order in which it was published.
func TestListening(t *testing.T) {
	t.Parallel()
	listening, _ := constructors(start(t, redistest.Start(t)), "")
	run(t, tests.Features{
		Persistent: true, GuaranteedOrder: true, NewSubscriberReceivesOldMessages: true, ForceShort: isShort(),
	}, listening, append(suite(), tests.TestNewSubscriberReceivesOldMessages))
}

// Subscribers in a group share what comes. The order is that of publishing while one at a time works on it.
func TestConsuming(t *testing.T) {
	t.Parallel()
	consuming, inGroups := constructors(start(t, redistest.Start(t)), "g")
	features := tests.Features{
		ConsumerGroups: true, Persistent: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true,
		ForceShort: isShort(),
	}
	run(t, features, consuming, suite())
	t.Run("TestConsumerGroups", func(t *testing.T) {
		t.Parallel()
		tests.TestConsumerGroups(t, tests.TestContext{TestID: tests.NewTestID(), Features: features}, inGroups)
	})
}

// The server is killed and comes back, twice, while many publish.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]string{"listening": "", "consuming": "g"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const publishers, each = 20, 50
			server := redistest.Start(t, redistest.WithPersistence())
			constructor, _ := constructors(start(t, server), group)
			pub, sub := constructor(t)
			messages, err := sub.Subscribe(t.Context(), "topic")
			require.NoError(t, err)
			published := make(chan *message.Message, publishers*each)
			var publishing sync.WaitGroup
			for range publishers {
				publishing.Go(func() {
					for range each {
						m := message.NewMessage(watermill.NewUUID(), []byte("x"))
						assert.Eventually(t, func() bool { return pub.Publish("topic", m) == nil }, patience, time.Millisecond)
						published <- m
					}
				})
			}
			var sent, received message.Messages
			all := make(chan struct{})
			go func() {
				defer close(all)
				received, _ = subscriber.BulkReadWithDeduplication(messages, publishers*each, patience)
			}()
			for range 2 {
				for range publishers * each / 3 {
					sent = append(sent, <-published)
				}
				server.Restart()
			}
			publishing.Wait()
			close(published)
			for m := range published {
				sent = append(sent, m)
			}
			<-all
			tests.AssertAllMessagesReceived(t, sent, received)
		})
	}
}
