// Package lifecycle says what happens when an application starts and stops, in
// which order, and how much of the time budget each part may use.
//
// # Order
//
// A part appends its hook in its constructor. Fx constructs in order of
// dependency, starts in the order of construction and stops in reverse, so
// what uses Redis starts after it and stops before it, wherever the module
// stands in the list of options. Hooks appended from an fx.Invoke would not
// have this property.
//
// # Budgets
//
// Start: Redis may use half of what remains of the start budget, so that its
// own error, which names the address, comes before the bare "context deadline
// exceeded" of Fx, and the parts that did start are stopped again. (When the
// start timeout of Fx itself fires, Fx runs no stop hook at all.)
//
// Stop: first of all [Drains] make the application not ready, and wait for the drain
// delay, for at most half of what remains. Then the store, notifications and locks each
// may use a fifth of what remains when their turn comes, which together is less than half
// of the whole. The rest stays for the hooks of others. Closing connections takes no time.
//
// # Without Fx
//
// [Hooks] runs the same hooks in programs without Fx.
package lifecycle
