package redisx

import "strconv"

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

// slotCount is how many hash slots a Cluster has.
const slotCount = 1 << 14

// SlotTag returns the first of the hash tags {0}, {1}, {2}, … that belongs to a slot of a
// Cluster from first to last, so that a key with it is one of the node that serves them.
func SlotTag(first, last int) string {
	for n := 0; ; n++ {
		tag := strconv.Itoa(n)
		if slot := hashSlot(tag); first <= slot && slot <= last {
			return "{" + tag + "}"
		}
	}
}

// hashSlot returns the slot of a hash tag: its CRC-16 (polynomial 0x1021, starting at
// 0), as the Redis Cluster specification says.
func hashSlot(tag string) int {
	var crc uint16
	for _, b := range []byte(tag) {
		crc ^= uint16(b) << 8
		for range 8 {
			carry := crc>>15 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return int(crc) % slotCount
}
