// Package configdoc writes the configuration table of the guides from the fields of
// config.Config: their names, tags and comments. There is one place to describe a
// setting, and a test that fails when docs/configuration.md says something else.
package configdoc

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/compozy/cache/internal/readme"
)

// Mark is the name of the section of a page that holds the table.
const Mark = "config"

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

// Update rewrites the table in the file at path from config.go in the folder dir.
func Update(dir, path string) error {
	rows, err := Rows(dir)
	if err != nil {
		return err
	}
	return readme.Update(path, Mark, Table(rows))
}
