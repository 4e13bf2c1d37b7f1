// Numbers for people.
#pragma once

#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace weft::client {

// "850ms", "12s", "3m20s", "2h05m", "4d": at most two units, as in the AGE column of kubectl.
std::string ShortDuration(absl::Duration duration);
// "512 B", "3.4 MiB".
std::string Bytes(int64_t bytes);
// "950", "12.3k", "4.56M".
std::string Count(double count);
absl::Time FromProto(const google::protobuf::Timestamp& timestamp);
// The age of a moment; "-" when it is unset.
std::string Age(const google::protobuf::Timestamp& timestamp, absl::Time now);
// "jobs/demo-1" -> "demo-1": what tables show and commands take.
std::string ShortName(const std::string& resource);

}  // namespace weft::client
