package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// runEtcd is a store of one member behind unix sockets in a folder: no ports, so no two of them meet. What it keeps is for the
// length of a test, and is not synced to the disk: it survives the end of its process, not that of the machine.
func runEtcd(arguments []string) int {
	flags := flag.NewFlagSet("etcd", flag.ContinueOnError)
	folder := flags.String("folder", "", "where data and sockets are (absolute; its client socket is FOLDER/client.sock)")
	if err := flags.Parse(arguments); err != nil || *folder == "" {
		fmt.Fprintln(os.Stderr, "usage: etcd --folder FOLDER")
		return 2
	}
	nobody := []url.URL{{Scheme: "http", Host: "alone:1"}} // who has no other members is not called by them

	config := embed.NewConfig()
	config.Dir = *folder + "/data"
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Path: *folder + "/client.sock"}}
	config.ListenPeerUrls = []url.URL{{Scheme: "unix", Path: *folder + "/peer.sock"}}
	config.AdvertiseClientUrls, config.AdvertisePeerUrls = nobody, nobody
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "warn"
	config.UnsafeNoFsync = true
	config.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	config.QuotaBackendBytes = 4 << 30

	server, err := embed.StartEtcd(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		server.Close()
		return 0
	case err := <-server.Err():
		fmt.Fprintln(os.Stderr, "etcd:", err)
		return 1
	}
}
