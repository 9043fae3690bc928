// Runs a program and reports what it and its child processes write, to which files and under which names, and what
// the process list shows of them: one JSON object per line. strace can do this too, but not every system has it.
//
//	main PROGRAM [ARGUMENT...]
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// One observation.
type seen struct {
	What  string `json:"what"`
	Path  string `json:"path,omitempty"`
	Place string `json:"place,omitempty"`
	// Null if the tracer does not see the bytes.
	Bytes []byte `json:"bytes"`
	Code  int    `json:"code"`
}

// The numbers of system calls, which differ between architectures.
var numbers = map[string]map[string]uint64{
	"amd64": {
		"write": 1, "open": 2, "mmap": 9, "pwrite64": 18, "writev": 20, "sendfile": 40, "rename": 82, "mkdir": 83,
		"creat": 85, "link": 86, "symlink": 88, "mknod": 133, "openat": 257, "mkdirat": 258, "mknodat": 259,
		"renameat": 264, "linkat": 265, "symlinkat": 266, "splice": 275, "pwritev": 296, "renameat2": 316,
		"copy_file_range": 326, "pwritev2": 328, "io_uring_setup": 425, "openat2": 437,
	},
	"arm64": {
		"mknodat": 33, "mkdirat": 34, "symlinkat": 36, "linkat": 37, "renameat": 38, "openat": 56, "write": 64,
		"writev": 66, "pwrite64": 68, "pwritev": 70, "sendfile": 71, "splice": 76, "mmap": 222, "renameat2": 276,
		"copy_file_range": 285, "pwritev2": 287, "io_uring_setup": 425, "openat2": 437,
	},
}

// Which arguments of a call are names of files, old or new.
var names = map[string][]int{
	"open": {0}, "creat": {0}, "mkdir": {0}, "mknod": {0}, "rename": {0, 1}, "link": {0, 1}, "symlink": {0, 1},
	"openat": {1}, "openat2": {1}, "mkdirat": {1}, "mknodat": {1}, "renameat": {1, 3}, "renameat2": {1, 3},
	"linkat": {1, 3}, "symlinkat": {0, 2},
}

// linux/ptrace.h
const (
	wall              = 0x40000000
	optionExitKill    = 0x100000
	requestSyscall    = 0x420e
	syscallEntry      = 1
	systemCallStopped = syscall.SIGTRAP | 0x80
)

type systemCall struct {
	pid       int
	name      string
	arguments [6]uint64
}

var output = json.NewEncoder(os.Stdout)

func main() {
	// The kernel takes one thread for the tracer.
	runtime.LockOSThread()
	if err := trace(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func trace(arguments []string) error {
	byNumber := map[uint64]string{}
	for name, number := range numbers[runtime.GOARCH] {
		byNumber[number] = name
	}
	if len(byNumber) == 0 {
		return errors.New("the system calls of " + runtime.GOARCH + " are not known here")
	}
	command := exec.Command(arguments[0], arguments[1:]...)
	command.Stdin = os.Stdin
	command.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := command.Start(); err != nil {
		return err
	}
	root := command.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(root, &status, wall, nil); err != nil {
		return err
	}
	options := syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACEEXEC | syscall.PTRACE_O_TRACEFORK |
		syscall.PTRACE_O_TRACEVFORK | syscall.PTRACE_O_TRACECLONE | optionExitKill
	if err := syscall.PtraceSetOptions(root, options); err != nil {
		return err
	}
	lookAtProcess(root)
	resume(root, 0)
	known := map[int]bool{root: true}
	for {
		pid, err := syscall.Wait4(-1, &status, wall, nil)
		if errors.Is(err, syscall.ECHILD) {
			return nil
		} else if err != nil {
			return err
		}
		signal := 0
		switch {
		case status.Exited() || status.Signaled():
			if pid == root {
				output.Encode(seen{What: "exit", Code: status.ExitStatus()})
			}
			continue
		case status.StopSignal() == systemCallStopped:
			if call, ok := callOf(pid, byNumber); ok {
				call.lookAt()
			}
		case status.TrapCause() == syscall.PTRACE_EVENT_EXEC:
			lookAtProcess(pid)
		case status.TrapCause() > 0:
		case !known[pid] && status.StopSignal() == syscall.SIGSTOP:
			// How a child stops that is traced from its start.
		default:
			signal = int(status.StopSignal())
		}
		known[pid] = true
		resume(pid, signal)
	}
}

// It may be killed in the meantime.
func resume(pid int, signal int) {
	if err := syscall.PtraceSyscall(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		panic(err)
	}
}

func lookAtProcess(pid int) {
	for what, file := range map[string]string{"arguments": "cmdline", "environment": "environ"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			panic(err)
		}
		output.Encode(seen{What: what, Bytes: content})
	}
}

// The call that begins, if any.
func callOf(pid int, byNumber map[uint64]string) (systemCall, bool) {
	var info struct {
		op        uint8
		arch      uint32
		_, _      uint64
		number    uint64
		arguments [6]uint64
		_         [4]uint64
	}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, requestSyscall, uintptr(pid), unsafe.Sizeof(info),
		uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno == syscall.ESRCH {
		return systemCall{}, false
	} else if errno != 0 {
		panic(errno)
	}
	name, ok := byNumber[info.number]
	return systemCall{pid, name, info.arguments}, ok && info.op == syscallEntry
}

func (call systemCall) lookAt() {
	arguments := call.arguments
	switch call.name {
	case "write", "pwrite64":
		call.write(arguments[0], call.memory(arguments[1], arguments[2]))
	case "writev", "pwritev", "pwritev2":
		parts := call.memory(arguments[1], arguments[2]*16)
		content := []byte{}
		for ; len(parts) > 0; parts = parts[16:] {
			address, length := binary.NativeEndian.Uint64(parts), binary.NativeEndian.Uint64(parts[8:])
			content = append(content, call.memory(address, length)...)
		}
		call.write(arguments[0], content)
	case "sendfile":
		call.write(arguments[0], nil)
	case "splice", "copy_file_range":
		call.write(arguments[2], nil)
	case "mmap":
		isWritable := arguments[2]&syscall.PROT_WRITE != 0
		isShared := arguments[3]&syscall.MAP_SHARED != 0 && arguments[3]&syscall.MAP_ANON == 0
		if isWritable && isShared {
			call.write(arguments[4], nil)
		}
	case "io_uring_setup":
		output.Encode(seen{What: "write", Path: call.name, Place: "disk"})
	}
	for _, argument := range names[call.name] {
		output.Encode(seen{What: "name", Bytes: call.text(arguments[argument])})
	}
}

func (call systemCall) write(descriptor uint64, content []byte) {
	link := fmt.Sprintf("/proc/%d/fd/%d", call.pid, int32(descriptor))
	path, err := os.Readlink(link)
	if err != nil {
		return // a descriptor that is not open cannot be written to
	}
	output.Encode(seen{What: "write", Path: path, Place: placeOf(link, path), Bytes: content})
}

func placeOf(link, path string) string {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	metadata, err := os.Stat(link)
	// `pipe:[1]`, `socket:[2]`, `anon_inode:...`, and devices.
	if !strings.HasPrefix(path, "/") || err == nil && !metadata.Mode().IsRegular() {
		return "stream"
	}
	var filesystem syscall.Statfs_t
	if err := syscall.Statfs(link, &filesystem); err != nil {
		panic(err)
	}
	if kind := uint32(filesystem.Type); kind == tmpfs || kind == ramfs {
		return "memory"
	}
	return "disk"
}

func (call systemCall) memory(address, length uint64) []byte {
	content := make([]byte, length)
	if length == 0 {
		return content
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", call.pid))
	if err != nil {
		panic(err)
	}
	defer memory.Close()
	count, err := memory.ReadAt(content, int64(address))
	if err != nil {
		panic(fmt.Sprintf("%d of %d bytes: %v", count, length, err))
	}
	return content
}

// A zero-terminated text, which may end just before memory that cannot be read.
func (call systemCall) text(address uint64) []byte {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", call.pid))
	if err != nil {
		panic(err)
	}
	defer memory.Close()
	content := make([]byte, 4096)
	count, _ := memory.ReadAt(content, int64(address))
	text, _, _ := bytes.Cut(content[:count], []byte{0})
	return text
}
