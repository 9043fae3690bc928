// Command kstatus prints what a tool that waits (Flux, Helm, Argo CD) would conclude from an object's status.
//
// It reads one JSON object per line and prints one line for each: the status, a tab, the message. Input
// that is not an object ends it with exit code 2 and the number of the line.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "kstatus:", err)
		os.Exit(2)
	}
}

// judge answers line by line, so that a caller may keep both ends open and ask again.
func judge(in io.Reader, out io.Writer) error {
	// Not a Scanner: an object may be as long as etcd allows.
	lines := bufio.NewReader(in)
	for number := 1; ; number++ {
		line, readErr := lines.ReadBytes('\n')
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			return readErr
		}
		if len(bytes.TrimSpace(line)) > 0 {
			result, err := compute(line)
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			message := strings.Join(strings.Fields(result.Message), " ")
			if _, err := fmt.Fprintf(out, "%s\t%s\n", result.Status, message); err != nil {
				return err
			}
		}
		if readErr != nil {
			return nil
		}
	}
}

func compute(line []byte) (*status.Result, error) {
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(line, object); err != nil {
		return nil, err
	}
	return status.Compute(object)
}
