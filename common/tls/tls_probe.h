// Why a connection cannot be made, where TLS is the reason. gRPC says little more than that there
// is none; a handshake of our own says what the other side, or its certificate, objects to.
#pragma once

#include <string>

#include "absl/time/time.h"
#include "common/tls/tls_files.h"

namespace weft {

struct TlsProbe {
  std::string address;  // host:port of the server
  TlsFiles files;       // of the client; empty: it speaks no TLS
  std::string name;     // that the server's certificate must have; empty: the host of the address
  absl::Duration limit = absl::Seconds(2);  // of each wait for the server
};

// Connects once more and says what stands between client and server, as the end of a sentence about
// the server: "it speaks TLS, ...". Connects twice before it says so, because a server that ends
// also breaks off handshakes. Empty when TLS is no obstacle, or when nobody answers. Blocks; any
// thread.
std::string ExplainTls(const TlsProbe& probe);

}  // namespace weft
