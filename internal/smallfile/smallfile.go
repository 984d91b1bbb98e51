// Package smallfile reads the files with secrets and certificates that a configuration
// names. What a name leads to is not known in advance: reading a pipe could wait for
// ever, and a device or a log may have no end.
package smallfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// The largest files that are read, in KiB.
const (
	Password = 64
	PEM      = 1024
)

// Read returns the content of a regular file of at most the given number of KiB, without
// NUL bytes in it, and without the byte order mark that some editors put at its start: it
// would hide a certificate, and be part of a password. Symbolic links are followed, as
// mounted secrets are made of them.
//
// The error completes a sentence about the file that the caller begins ("is not a regular
// file"); it names no path, which could be a secret in the wrong place, and wraps
// fs.ErrNotExist and the like.
func Read(path string, kib int) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file") // to open a pipe is to wait for a writer
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer func() { _ = file.Close() }()
	most := kib << 10
	content, err := io.ReadAll(io.LimitReader(file, int64(most)+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case len(content) > most:
		return nil, fmt.Errorf("is larger than %d KiB", kib)
	case bytes.IndexByte(content, 0) >= 0:
		return nil, errors.New("has a NUL byte in it")
	}
	return bytes.TrimPrefix(content, []byte("\ufeff")), nil
}

// unreadable takes the path out of err.
func unreadable(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return fmt.Errorf("cannot be read: %w", err)
}
