// Package watermill makes publishers and subscribers of Watermill out of a notification system, for the tests that Watermill
// has for all that call themselves that. It is in this module so that Watermill does not become a dependency of users.
package watermill
