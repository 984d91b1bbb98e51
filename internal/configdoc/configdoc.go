// Package configdoc writes the README's configuration table from the fields of
// config.Config: their names, tags and comments. There is one place to describe a
// setting, and a test that fails when the README says something else.
package configdoc

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// The table stands between these two lines of the README.
const (
	begin = "<!-- config:begin -->"
	end   = "<!-- config:end -->"
)

// Row is one setting.
type Row struct {
	Variable, Field, JSON, Default, Meaning string
}

// Rows reads the settings from config.go in the folder dir, in their order.
func Rows(dir string) ([]Row, error) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, "config.go"), nil, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("configdoc: %w", err)
	}
	var rows []Row
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				rows = append(rows, fieldRows(f)...)
			}
		}
		return false
	})
	if len(rows) == 0 {
		return nil, errors.New("configdoc: no struct Config with fields found")
	}
	return rows, nil
}

// fieldRows returns a row for each exported name that f declares.
func fieldRows(f *ast.Field) []Row {
	var tag reflect.StructTag
	if f.Tag != nil {
		// The parser accepts well-formed literals only.
		text, _ := strconv.Unquote(f.Tag.Value)
		tag = reflect.StructTag(text)
	}
	variable, rest, _ := strings.Cut(tag.Get("env"), ",")
	var rows []Row
	for _, name := range f.Names {
		if !name.IsExported() {
			continue
		}
		rows = append(rows, Row{
			Variable: variable,
			Field:    name.Name,
			JSON:     strings.TrimPrefix(tag.Get("json"), "-"),
			Default:  strings.TrimPrefix(rest, "default="),
			Meaning:  strings.Join(strings.Fields(f.Doc.Text()), " "),
		})
	}
	return rows
}

// Table renders rows as a Markdown table.
func Table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| variable | field | JSON | default | meaning |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n",
			code(r.Variable), code(r.Field), code(r.JSON), code(r.Default), escape(r.Meaning))
	}
	return b.String()
}

// code marks s as code, and shows a dash where there is nothing.
func code(s string) string {
	if s == "" {
		return "–"
	}
	return "`" + escape(s) + "`"
}

// escape keeps a cell from ending early or being taken for HTML.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s)
}

// Replace returns readme with table between the two marks.
func Replace(readme, table string) (string, error) {
	head, rest, ok := strings.Cut(readme, begin)
	if !ok {
		return "", fmt.Errorf("configdoc: %s is missing", begin)
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("configdoc: %s is missing after %s", end, begin)
	}
	return head + begin + "\n" + table + end + tail, nil
}

// Update rewrites the table in the file readme from config.go in the folder dir,
// and reports whether it was out of date.
func Update(dir, readme string) (changed bool, err error) {
	rows, err := Rows(dir)
	if err != nil {
		return false, err
	}
	old, err := os.ReadFile(readme)
	if err != nil {
		return false, fmt.Errorf("configdoc: %w", err)
	}
	text, err := Replace(string(old), Table(rows))
	if err != nil || text == string(old) {
		return false, err
	}
	if err := os.WriteFile(readme, []byte(text), 0o644); err != nil {
		return false, fmt.Errorf("configdoc: %w", err)
	}
	return true, nil
}
