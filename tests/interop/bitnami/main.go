// An independent sealer for the values of Bitnami's SealedSecrets, written from the published format with only Go's
// standard library. So tests/migrate opens values that no code of Bulla has sealed.
//
// `bitnami key BITS` prints a new private key in PEM, PKCS#1. `bitnami pkcs8` converts a key from stdin to PKCS#8 on
// stdout. `bitnami seal` reads one JSON request per line, and prints a sealed value in base64 for each.
package main

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

type request struct {
	Key   string `json:"key"`   // PEM, PKCS#1
	Label string `json:"label"` // namespace/name, namespace or nothing
	Value []byte `json:"value"` // base64
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "key":
		bits, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return err
		}
		return pem.Encode(os.Stdout, &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	case len(args) == 1 && args[0] == "pkcs8":
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		key, err := parse(string(text))
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		return pem.Encode(os.Stdout, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	case len(args) == 1 && args[0] == "seal":
		decoder := json.NewDecoder(bufio.NewReader(os.Stdin))
		for {
			var asked request
			if err := decoder.Decode(&asked); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			sealed, err := seal(asked)
			if err != nil {
				return err
			}
			fmt.Println(base64.StdEncoding.EncodeToString(sealed))
		}
	}
	return errors.New("key BITS, pkcs8 or seal")
}

func parse(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParsePKCS1PrivateKey(block.Bytes)
}

// Two bytes of length, the session key in RSA-OAEP with SHA-256 and the scope as label, and the value in AES-256-GCM
// with a nonce of zeros.
func seal(asked request) ([]byte, error) {
	key, err := parse(asked.Key)
	if err != nil {
		return nil, err
	}
	session := make([]byte, 32)
	if _, err := rand.Read(session); err != nil {
		return nil, err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, session, []byte(asked.Label))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(session)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	sealed := binary.BigEndian.AppendUint16(nil, uint16(len(wrapped)))
	sealed = append(sealed, wrapped...)
	return gcm.Seal(sealed, make([]byte, gcm.NonceSize()), asked.Value, nil), nil
}
