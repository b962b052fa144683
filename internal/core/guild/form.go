package guild

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"hubbub.dev/hubbub/proto"
)

// form is the JSON object of a request. Each of its readers takes one field: an
// absent field leaves *dst as it is, so that a form applied to a copy of what
// there is makes a partial update. So does null, except where a field can be
// null. What is wrong with the fields is collected, for one answer with all of
// it (Reference, "Error Messages").
type form struct {
	fields map[string]json.RawMessage
	errors map[string]any
}

// parseForm reads a body; an empty one is an empty form.
func parseForm(body []byte) (*form, error) {
	f := &form{}
	if len(bytes.TrimSpace(body)) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(body, &f.fields); err != nil {
		return nil, refuse(proto.ErrInvalidJSON)
	}
	return f, nil
}

// fail notes what is wrong with a field, by one of Discord's names for it.
func (f *form) fail(field, code, message string) {
	if f.errors == nil {
		f.errors = map[string]any{}
	}
	f.errors[field] = map[string]any{"_errors": []map[string]string{{"code": code, "message": message}}}
}

// err returns the answer to an invalid form, nil for a valid one.
func (f *form) err() error {
	if len(f.errors) == 0 {
		return nil
	}
	return &proto.APIError{Status: 400, ErrorBody: proto.ErrorBody{Code: proto.ErrInvalidFormBody, Message: "Invalid Form Body", Errors: f.errors}}
}

func (f *form) has(field string) bool { return f.fields[field] != nil }

func (f *form) isNull(field string) bool { return string(f.fields[field]) == "null" }

// decode reads a field that is neither absent nor null.
func decode[T any](f *form, field string, code, want string) (v T, ok bool) {
	if !f.has(field) || f.isNull(field) {
		return v, false
	}
	if err := json.Unmarshal(f.fields[field], &v); err != nil {
		f.fail(field, code, want)
		return v, false
	}
	return v, true
}

func (f *form) text(field string, shortest, longest int, dst *string) {
	s, ok := decode[string](f, field, "STRING_TYPE_CONVERT", "Must be a string.")
	if !ok {
		return
	}
	s = strings.TrimSpace(s)
	if n := utf8.RuneCountInString(s); n < shortest || n > longest {
		f.fail(field, "BASE_TYPE_BAD_LENGTH", fmt.Sprintf("Must be between %d and %d in length.", shortest, longest))
		return
	}
	*dst = s
}

func (f *form) required(field string) {
	if !f.has(field) || f.isNull(field) {
		f.fail(field, "BASE_TYPE_REQUIRED", "This field is required")
	}
}

// nullableText reads a text that null, and nothing but space, removes.
func (f *form) nullableText(field string, longest int, dst **string) {
	if f.isNull(field) {
		*dst = nil
		return
	}
	if !f.has(field) {
		return
	}
	var s string
	f.text(field, 0, longest, &s)
	if s == "" {
		*dst = nil
		return
	}
	*dst = &s
}

func (f *form) integer(field string, least, most int, dst *int) {
	n, ok := decode[int](f, field, "NUMBER_TYPE_COERCE", "Must be an integer.")
	switch {
	case !ok:
	case n < least:
		f.fail(field, "NUMBER_TYPE_MIN", fmt.Sprintf("int value should be greater than or equal to %d.", least))
	case n > most:
		f.fail(field, "NUMBER_TYPE_MAX", fmt.Sprintf("int value should be less than or equal to %d.", most))
	default:
		*dst = n
	}
}

func (f *form) boolean(field string, dst *bool) {
	if b, ok := decode[bool](f, field, "BOOLEAN_TYPE_CONVERT", "Must be either true or false."); ok {
		*dst = b
	}
}

func (f *form) permissions(field string, dst *proto.Permissions) {
	if p, ok := decode[proto.Permissions](f, field, "NUMBER_TYPE_COERCE", "Must be a decimal string."); ok {
		*dst = p & proto.PermAll
	}
}

func (f *form) id(field string, dst *proto.Snowflake) {
	if id, ok := decode[proto.Snowflake](f, field, "NUMBER_TYPE_COERCE", "Must be a snowflake."); ok {
		*dst = id
	}
}

// nullableID reads an id that null removes.
func (f *form) nullableID(field string, dst **proto.Snowflake) {
	if f.isNull(field) {
		*dst = nil
		return
	}
	if id, ok := decode[proto.Snowflake](f, field, "NUMBER_TYPE_COERCE", "Must be a snowflake."); ok {
		*dst = &id
		if id == 0 {
			*dst = nil
		}
	}
}

func (f *form) ids(field string, most int, dst *[]proto.Snowflake) {
	list, ok := decode[[]proto.Snowflake](f, field, "LIST_TYPE_CONVERT", "Must be a list of snowflakes.")
	if !ok {
		return
	}
	if len(list) > most {
		f.fail(field, "BASE_TYPE_MAX_LENGTH", fmt.Sprintf("Must be %d or fewer in length.", most))
		return
	}
	*dst = list
}

// objects reads a list of JSON objects that is carried as it came.
func (f *form) objects(field string, most int, dst *[]json.RawMessage) {
	list, ok := decode[[]json.RawMessage](f, field, "LIST_TYPE_CONVERT", "Must be a list of objects.")
	if !ok {
		return
	}
	if len(list) > most {
		f.fail(field, "BASE_TYPE_MAX_LENGTH", fmt.Sprintf("Must be %d or fewer in length.", most))
		return
	}
	for _, o := range list {
		if len(o) == 0 || o[0] != '{' {
			f.fail(field, "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
			return
		}
	}
	*dst = list
}
