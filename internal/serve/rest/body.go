package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"time"

	"hubbub.dev/hubbub/proto"
)

// Bounds of a request body.
const (
	maxBody     = 64 << 10
	bodyTimeout = 10 * time.Second
)

// readBody returns the JSON body of a request, nil when it has none. A multipart
// form counts by its payload_json; one with a file is refused, since Hubbub
// keeps no attachments.
func readBody(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
	if r.Body == nil || r.Body == http.NoBody || r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete {
		return nil, nil
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge()
	}
	// A body that trickles in must not hold the connection; a writer that knows
	// no deadlines is a test's.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	var body []byte
	switch kind {
	case "", "application/json":
		body, err = io.ReadAll(r.Body)
	case "multipart/form-data":
		body, err = payloadJSON(multipart.NewReader(r.Body, params["boundary"]))
	default:
		return nil, invalid("_content_type", "CONTENT_TYPE_INVALID",
			`Expected "Content-Type" header to be one of {'application/json', 'multipart/form-data'}.`)
	}
	if err != nil {
		return nil, bodyFailure(err)
	}
	return checkJSON(body)
}

func tooLarge() error {
	return fail(http.StatusRequestEntityTooLarge, proto.ErrTooLarge, "Request entity too large")
}

func bodyFailure(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge()
	}
	if _, ok := errors.AsType[*proto.APIError](err); ok {
		return err
	}
	return fail(http.StatusBadRequest, proto.ErrInvalidJSON, "The request body could not be read.")
}

// payloadJSON returns the part called payload_json.
func payloadJSON(parts *multipart.Reader) ([]byte, error) {
	var body []byte
	for {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if part.FileName() != "" {
			return nil, invalid("files", "ATTACHMENTS_UNSUPPORTED", "This server keeps no attachments; send payload_json alone.")
		}
		if part.FormName() == "payload_json" {
			if body, err = io.ReadAll(part); err != nil {
				return nil, err
			}
		}
	}
}

// checkJSON lets objects, arrays and emptiness through.
func checkJSON(body []byte) (json.RawMessage, error) {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return nil, nil
	case !json.Valid(body):
		return nil, fail(http.StatusBadRequest, proto.ErrInvalidJSON, "The request body contains invalid JSON.")
	case string(body) == "null":
		return nil, nil
	case body[0] != '{' && body[0] != '[':
		return nil, invalid("_body", "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
	}
	return body, nil
}
