// A node without containers: the kubelet's own streaming server in front of processes of this machine.
//
// What a container would run runs here as a process, so that the API server's exec, attach-less logs and port-forward
// meet the real protocols, SPDY and WebSocket, of a real kubelet. For tests on loopback alone.
//
// usage: kubelet ADDRESS CERTIFICATE KEY
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	versions "k8s.io/apimachinery/pkg/util/remotecommand"
	client "k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubernetes/pkg/kubelet/cri/streaming/portforward"
	"k8s.io/kubernetes/pkg/kubelet/cri/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const (
	idle   = time.Hour
	create = 30 * time.Second
)

type node struct{}

// ExecInContainer runs the command here, in a terminal where one is wanted.
func (node) ExecInContainer(_ string, _ types.UID, _ string, argv []string, in io.Reader, out, failed io.WriteCloser,
	tty bool, sizes <-chan client.TerminalSize, _ time.Duration) error {
	process := exec.Command(argv[0], argv[1:]...)
	var ended error
	if tty {
		ended = inTerminal(process, in, out, sizes)
	} else {
		// The process's own end counts, not that of what it reads: who holds a pipe open would hold it here.
		ended = withPipes(process, in, out, failed)
	}
	var status *exec.ExitError
	if errors.As(ended, &status) {
		return utilexec.CodeExitError{Err: ended, Code: status.ExitCode()}
	}
	return ended
}

func withPipes(process *exec.Cmd, in io.Reader, out, failed io.Writer) error {
	process.Stdout, process.Stderr = out, failed
	if in == nil {
		return process.Run()
	}
	stdin, err := process.StdinPipe()
	if err != nil {
		return err
	}
	go func() {
		io.Copy(stdin, in)
		stdin.Close()
	}()
	return process.Run()
}

func inTerminal(process *exec.Cmd, in io.Reader, out io.Writer, sizes <-chan client.TerminalSize) error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	resize := func(size client.TerminalSize) {
		unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Height, Col: size.Width})
	}
	if sizes != nil {
		// The first one comes before anything is drawn.
		select {
		case size := <-sizes:
			resize(size)
		case <-time.After(time.Second):
		}
		go func() {
			for size := range sizes {
				resize(size)
			}
		}()
	}
	process.Stdin, process.Stdout, process.Stderr = slave, slave, slave
	process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := process.Start(); err != nil {
		slave.Close()
		return err
	}
	slave.Close()
	if in != nil {
		go io.Copy(master, in)
	}
	drawn := make(chan struct{})
	go func() {
		// Ends with an error when the last one has left the terminal.
		io.Copy(out, master)
		close(drawn)
	}()
	ended := process.Wait()
	<-drawn
	return ended
}

// PortForward leads to a port of this machine.
func (node) PortForward(_ string, _ types.UID, port int32, stream io.ReadWriteCloser) error {
	there, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer there.Close()
	go func() {
		io.Copy(there, stream)
		there.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, there)
	return err
}

// logs says two lines, and where it is followed a third one until its reader leaves.
func logs(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "first line")
	fmt.Fprintln(w, "second line")
	if r.URL.Query().Get("follow") != "true" {
		return
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func serve(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	pod := ""
	if len(path) > 2 {
		pod = path[2]
	}
	switch path[0] {
	case "exec":
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		argv := r.URL.Query()["command"]
		remotecommand.ServeExec(w, r, node{}, pod, "", path[len(path)-1], argv, options, idle, create,
			versions.SupportedStreamingProtocols)
	case "portForward":
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, node{}, pod, "", options, idle, create, portforward.SupportedProtocols)
	case "containerLogs":
		logs(w, r)
	default:
		http.NotFound(w, r)
	}
}

func main() {
	if err := http.ListenAndServeTLS(os.Args[1], os.Args[2], os.Args[3], http.HandlerFunc(serve)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
