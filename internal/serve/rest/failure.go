package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"hubbub.dev/hubbub/proto"
)

// Error codes of Discord's that proto does not name because only REST answers
// them.
const (
	codeUsersOnly   = 20001 // "Bots cannot use this endpoint"
	codeNotYourApp  = 20012
	codeMaxCommands = 30032
)

// fail returns an error that is answered with status and the JSON error body.
func fail(status, code int, message string) error {
	return &proto.APIError{Status: status, ErrorBody: proto.ErrorBody{Code: code, Message: message}}
}

// plain returns the failure that has no code of its own, such as
// "404: Not Found".
func plain(status int) error {
	return fail(status, proto.ErrGeneral, fmt.Sprintf("%d: %s", status, http.StatusText(status)))
}

// unavailable is answered when the guild's owner, the bus or a slot for hashing
// is out of reach.
func unavailable() error {
	return fail(http.StatusServiceUnavailable, proto.ErrServiceUnavailable,
		"API resource is currently overloaded. Try again a little later")
}

// form collects what is wrong with a body, by field (Reference, "Error
// Messages"). The zero form is right.
type form struct{ errors map[string]any }

// wrong says that field is wrong. A dotted field is a path: "options.0.name".
func (f *form) wrong(field, code, message string) {
	if f.errors == nil {
		f.errors = map[string]any{}
	}
	at := f.errors
	for name := range strings.SplitSeq(field, ".") {
		next, ok := at[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	list, _ := at["_errors"].([]formError)
	at["_errors"] = append(list, formError{code, message})
}

type formError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// length checks that n is between least and most.
func (f *form) length(field string, n, least, most int) {
	if n < least && n == 0 {
		f.wrong(field, "BASE_TYPE_REQUIRED", "This field is required")
	} else if n < least || n > most {
		f.wrong(field, "BASE_TYPE_BAD_LENGTH", fmt.Sprintf("Must be between %d and %d in length.", least, most))
	}
}

// err returns the failure, or nil for a form that is right.
func (f *form) err() error {
	if f.errors == nil {
		return nil
	}
	return &proto.APIError{Status: http.StatusBadRequest,
		ErrorBody: proto.ErrorBody{Code: proto.ErrInvalidFormBody, Message: "Invalid Form Body", Errors: f.errors}}
}

// invalid is a form with one wrong field.
func invalid(field, code, message string) error {
	var f form
	f.wrong(field, code, message)
	return f.err()
}

// decode reads a JSON body into v; an empty body leaves v as it is. What does
// not fit is answered as an invalid form.
func decode(body json.RawMessage, v any) error {
	if len(body) == 0 {
		return nil
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && t.Field != "" {
		return invalid(t.Field, "BASE_TYPE_BAD_TYPE", "Could not interpret \""+t.Value+"\" as "+t.Type.String()+".")
	}
	return &proto.APIError{Status: http.StatusBadRequest, ErrorBody: proto.ErrorBody{
		Code: proto.ErrInvalidFormBody, Message: "Invalid Form Body",
		Errors: map[string]any{"_errors": []formError{{"BASE_TYPE_BAD_TYPE", "A field has the wrong type."}}}}}
}
