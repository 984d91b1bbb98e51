// Package deploy has no code. Its tests hold the dashboard and the alerts of this folder against the metrics that the code
// registers. It is a module of its own as the parser of PromQL brings more libraries than a user of the module should inherit.
package deploy
