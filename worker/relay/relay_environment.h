// What weft-relay is told by the agent of its host, through the environment of its orted.
#pragma once

namespace weft::worker {

inline constexpr char kRelayChannelVariable[] = "WEFT_RELAY_CHANNEL";  // its shared memory
inline constexpr char kRelayProgramVariable[] = "WEFT_RELAY_PROGRAM";  // weft-relay, absolute
inline constexpr char kRelayStartSecondsVariable[] = "WEFT_RELAY_START_SECONDS";

}  // namespace weft::worker
