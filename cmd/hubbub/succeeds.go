package main

import (
	"fmt"

	"hubbub.dev/hubbub/internal/serve/node"
)

// succeedsCmd is what a server asks of the binary that it is to go on as.
type succeedsCmd struct {
	Form int `arg:""`
}

// Run fails unless what that server would leave is understood here.
func (c succeedsCmd) Run() error {
	if c.Form != node.SuccessionForm {
		return fmt.Errorf("what is left has form %d, and %d is understood", c.Form, node.SuccessionForm)
	}
	return nil
}
