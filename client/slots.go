package client

import "strconv"

// slotCount is how many hash slots a Cluster has.
const slotCount = 1 << 14

// keyTag returns the first of the hash tags {0}, {1}, {2}, … that belongs to a slot
// from first to last, so that a key with it is one of the node that serves them.
func keyTag(first, last int) string {
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
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % slotCount
}
