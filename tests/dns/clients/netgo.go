// Resolve names by Go's own resolver, not that of libc, at a server on any port.
//
// Usage: netgo HOST:PORT NAME...
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, os.Args[1])
	}
	resolver := &net.Resolver{PreferGo: true, StrictErrors: true, Dial: dial}
	for _, name := range os.Args[2:] {
		addresses, err := resolver.LookupHost(context.Background(), name)
		if err != nil {
			fmt.Println("error:", err)
		} else {
			fmt.Println(strings.Join(addresses, " "))
		}
	}
}
