package redisx

// HashTag returns name in braces, as the part of a key that decides which node of a
// Cluster has it: keys with the same HashTag are on the same one, whatever the bytes
// of the name, and different names have different HashTags.
//
// Redis takes what stands between the first "{" and the next "}", unless that is
// empty. So a name that begins with "}" gets a "%" in front, and one that begins with
// "%" another one, so that no two names become the same.
func HashTag(name string) string {
	if name == "" || name[0] == '}' || name[0] == '%' {
		name = "%" + name
	}
	return "{" + name + "}"
}
