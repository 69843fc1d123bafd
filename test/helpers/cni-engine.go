// An engine for containers as far as networks go: it has the library of the CNI project do what podman and others have it do.
// cni-engine add|check|del CONFLIST CONTAINER NETNS IFNAME, with CNI_PATH, CNI_CACHE, and in CAP_ARGS capability arguments as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
)

func run(args []string) error {
	list, err := libcni.ConfListFromFile(args[1])
	if err != nil {
		return err
	}
	capabilities := map[string]interface{}{}
	if text := os.Getenv("CAP_ARGS"); text != "" {
		if err := json.Unmarshal([]byte(text), &capabilities); err != nil {
			return err
		}
	}
	engine := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), os.Getenv("CNI_CACHE"), nil)
	attachment := &libcni.RuntimeConf{ContainerID: args[2], NetNS: args[3], IfName: args[4], CapabilityArgs: capabilities}
	switch args[0] {
	case "add":
		result, err := engine.AddNetworkList(context.Background(), list, attachment)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return engine.CheckNetworkList(context.Background(), list, attachment)
	case "del":
		return engine.DelNetworkList(context.Background(), list, attachment)
	}
	return fmt.Errorf("unknown command %s", args[0])
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
