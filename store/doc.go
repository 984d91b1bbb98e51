// Package store keeps typed values in Redis: versioned state that several processes change safely.
//
// # Metrics
//
// [Store.Collector] exports, all with the label cache (see [WithName]), those of one Cache or State with the label name:
//
//   - cache_store_requests_total{name,source}: keys that were asked of Caches; source is near, redis, loaded, stale, none or
//     error
//   - cache_store_loads_total{name,outcome}, cache_store_load_seconds{name}: loads, and a histogram of the time they took
//   - cache_store_lease_waits_total{name}: keys for whose load in another process this one has waited
//   - cache_store_fills_refused_total{name}: loaded values that were not stored, as somebody had written or deleted meanwhile
//   - cache_store_stale_served_total{name,cause}: stale values that were returned
//   - cache_store_cache_writes_total{name,op,outcome}: keys that Set and Delete of a Cache were called for
//   - cache_store_state_calls_total{name,op,outcome}: calls of States
//   - cache_store_conflicts_total{name}: writes that found another version
//   - cache_store_oversize_total{name}: values that were too large
//   - cache_store_breakers_open: servers that Caches do without now
//   - cache_store_deletes_pending: keys whose delete failed and is to be repeated
//   - cache_store_loads_without_redis: loaders that run without Redis now
package store
