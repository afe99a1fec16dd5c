#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Go: build and run, goroutines on several threads with asynchronous preemption (SIGURG), processes, HTTP on a Unix socket.
. /suite/check.sh
mkdir -p /tmp/g && cd /tmp/g || die cd
export GOCACHE=/tmp/gocache GOFLAGS=-mod=mod GO111MODULE=off GOPROXY=off
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

func need(ok bool, what string) {
	if !ok {
		fmt.Fprintln(os.Stderr, "FAILED:", what)
		os.Exit(1)
	}
}

func main() {
	runtime.GOMAXPROCS(4)
	// Busy loops without a call: only preemption by signal lets the others go on.
	stop := false
	for i := 0; i < 3; i++ {
		go func() {
			for x := 0; !stop; x++ {
			}
		}()
	}
	channel := make(chan int)
	var group sync.WaitGroup
	for i := 0; i < 100; i++ {
		group.Add(1)
		go func(i int) { defer group.Done(); channel <- i }(i)
	}
	sum := 0
	for i := 0; i < 100; i++ {
		sum += <-channel
	}
	group.Wait()
	need(sum == 4950, "goroutines")
	runtime.GC()
	for i := 0; i < 20; i++ {
		out, err := exec.Command("echo", "hello").Output()
		need(err == nil && string(out) == "hello\n", "a process")
	}
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	select {
	case <-caught:
	case <-time.After(20 * time.Second):
		need(false, "a signal")
	}
	listener, err := net.Listen("unix", "/tmp/g/sock")
	need(err == nil, fmt.Sprint(err))
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello "+r.URL.Path) }))
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", "/tmp/g/sock") }}}
	for i := 0; i < 50; i++ {
		answer, err := client.Get(fmt.Sprintf("http://x/%d", i))
		need(err == nil, fmt.Sprint(err))
		text, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		need(string(text) == fmt.Sprintf("hello /%d", i), "an answer")
	}
	stop = true
	fmt.Println("all")
}
GO
go build -o main main.go >/tmp/log 2>&1 || die "go build: $(tail -n 5 /tmp/log)"
check all "$(./main)" "the program"
passed
