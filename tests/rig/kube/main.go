// The parts of a Kubernetes cluster that the tests need, in one program: osm-kube PART ARGUMENT..., or called by the name of
// the part: etcd, kube-apiserver, kube-controller-manager, kubectl. Each runs as a process of its own, since flags and feature
// gates are registered once for a whole process.
//
// With OSM_KUBE_LIFELINE set, a server ends when its standard input does: with whoever holds the other end, however that ends.
package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	_ "time/tzdata"

	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

var parts = map[string]func(){
	"etcd":           func() { os.Exit(runEtcd(os.Args[1:])) },
	"kube-apiserver": func() { os.Exit(cli.Run(apiserver.NewAPIServerCommand())) },
	"kube-controller-manager": func() {
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	},
	"kubectl": runKubectl,
}

func main() {
	name := filepath.Base(os.Args[0])
	run := parts[name]
	if run == nil && len(os.Args) > 1 {
		name = os.Args[1]
		run = parts[name]
		os.Args = os.Args[1:]
	}
	if run == nil {
		fmt.Fprintln(os.Stderr, "usage: osm-kube etcd|kube-apiserver|kube-controller-manager|kubectl ARGUMENT...")
		os.Exit(2)
	}
	if os.Getenv("OSM_KUBE_LIFELINE") != "" && name != "kubectl" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(1)
		}()
	}
	run()
}

func runKubectl() {
	_, _ = logs.GlogSetter(kubectl.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
