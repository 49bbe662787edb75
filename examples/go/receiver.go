// Takes the events of refund-notify: verifies each, books it once.
//
// WEBHOOK_SECRETS: the signing keys (whsec_...), one or more, on one line or several.
// EVENTS: a directory, where each event becomes a file.  PORT: of 127.0.0.1.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const limit = 1 << 20

var keys [][]byte
var events = variable("EVENTS", "events")

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func genuine(header http.Header, body []byte) bool {
	id, sent := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(sent, 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); id == "" || err != nil || age.Abs() > 5*time.Minute {
		return false
	}
	found := false
	for _, key := range keys {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, sent, body)
		wanted := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		for _, given := range strings.Split(header.Get("webhook-signature"), " ") {
			found = hmac.Equal([]byte(wanted), []byte(given)) || found
		}
	}
	return found
}

// The file's name is the unique key: a link is made whole, or says that it is there. With a
// database it is an INSERT of the id, in one transaction with the booking.
func book(id string, body []byte) error {
	file, err := os.CreateTemp(events, ".")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err = file.Write(body); err == nil {
		err = file.Sync()
	}
	if err == nil {
		err = os.Link(file.Name(), filepath.Join(events, url.QueryEscape(id)))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// or a power cut takes the name: the one just made by another, too
	directory, err := os.Open(events)
	if err != nil {
		return err
	}
	defer directory.Close()
	return directory.Sync()
}

func status(w http.ResponseWriter, r *http.Request) int {
	if r.Method != http.MethodPost {
		return http.StatusMethodNotAllowed
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		return http.StatusRequestEntityTooLarge
	}
	if !genuine(r.Header, body) {
		return http.StatusUnauthorized
	}
	if err := book(r.Header.Get("webhook-id"), body); err != nil {
		log.Print("not booked: ", err)
		return http.StatusInternalServerError
	}
	return http.StatusOK
}

func main() {
	for _, secret := range strings.Fields(os.Getenv("WEBHOOK_SECRETS")) {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			log.Fatal(err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		log.Fatal("no WEBHOOK_SECRETS")
	}
	if err := os.MkdirAll(events, 0o700); err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		code := status(w, r)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"code":"%s"}`, map[bool]string{true: "SUCCESS", false: "FAIL"}[code == http.StatusOK])
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+variable("PORT", "3000"), nil))
}
