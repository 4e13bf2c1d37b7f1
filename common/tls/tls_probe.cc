#include "common/tls/tls_probe.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <sys/socket.h>

#include <array>
#include <csignal>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/file/durable_file.h"
#include "common/net/listen_address.h"
#include "common/process/file_descriptor.h"
#include "common/tls/openssl_objects.h"

namespace weft {
namespace {

// RFC 8446, section 6: what a server says when it refuses a client. OpenSSL adds 1000.
constexpr int kFirstAlert = 1000;
constexpr int kLastAlert = 1255;

// The protocol to speak inside TLS: a length, then the name.
constexpr std::array<unsigned char, 3> kHttp2 = {2, 'h', '2'};

// "[::1]" as resolvers and certificates have it: "::1".
std::string BareHost(const std::string& host) {
  return host.size() > 2 && host.front() == '[' ? host.substr(1, host.size() - 2) : host;
}

// A connected socket whose reads and writes wait for `limit` at most; closed when nobody answers.
FileDescriptor ConnectTo(const std::string& host, int port, absl::Duration limit) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found) != 0) return {};
  const absl::Cleanup free_found = [found] { freeaddrinfo(found); };
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    FileDescriptor made(socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol));
    if (!made.is_open()) continue;
    // On Linux the time to send bounds connect(), too.
    const timeval time = absl::ToTimeval(limit);
    setsockopt(made.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
    setsockopt(made.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
    if (connect(made.get(), at->ai_addr, at->ai_addrlen) == 0) return made;
  }
  return {};
}

OpensslPtr<SSL_CTX> MakeContext(const TlsFiles& files) {
  OpensslPtr<SSL_CTX> context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_alpn_protos(context.get(), kHttp2.data(), kHttp2.size());
  // The handshake goes on in spite of a certificate that we do not trust: its faults are read from
  // the result, and no secret is sent.
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
  X509_STORE* store = SSL_CTX_get_cert_store(context.get());
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST);  // as gRPC
  if (const auto text = ReadFile(RealFileSystem(), files.ca); text.ok()) {
    for (const auto& authority : CertificatesOf(*text)) {
      X509_STORE_add_cert(store, authority.get());
    }
  }
  if (!files.cert.empty()) {
    SSL_CTX_use_certificate_chain_file(context.get(), files.cert.c_str());
    SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM);
  }
  return context;
}

void ExpectName(SSL* session, const std::string& name) {
  in6_addr ignored{};
  const bool is_address = inet_pton(AF_INET, name.c_str(), &ignored) == 1 ||
                          inet_pton(AF_INET6, name.c_str(), &ignored) == 1;
  if (is_address) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session), name.c_str());
  } else {
    SSL_set1_host(session, name.c_str());
    SSL_set_tlsext_host_name(session, name.c_str());
  }
}

std::string TimeText(absl::Time time) { return absl::FormatTime(time, absl::UTCTimeZone()); }

// What is wrong with the server's certificate; empty when it is trusted.
std::string ExplainCertificate(SSL* session, const TlsProbe& probe, const std::string& name) {
  const OpensslPtr<X509> certificate(SSL_get1_peer_certificate(session));
  if (certificate == nullptr) return "it shows no certificate";
  const int64_t result = SSL_get_verify_result(session);
  switch (result) {
    case X509_V_OK:
      return "";
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return absl::StrCat(
          "its certificate, or that of its authority, has expired; its own ends at ",
          TimeText(ValidUntil(*certificate)));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return absl::StrCat("its certificate is not valid before ",
                          TimeText(ValidFrom(*certificate)));
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return absl::StrCat("its certificate is for ", NamesOf(*certificate), ", not for ", name,
                          "; tls_name can name what to expect");
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return absl::StrCat("its certificate is from no authority in ", probe.files.ca, " (tls_ca)");
    default:
      return absl::StrCat("its certificate is not accepted: ",
                          X509_verify_cert_error_string(result));
  }
}

// The server has ended the connection; `reason` is OpenSSL's word for how, `asked` whether it had
// asked for our certificate.
std::string ExplainRefusal(const TlsFiles& files, bool asked, const std::string& reason) {
  if (asked && files.cert.empty()) {
    return "it asks for a certificate of the client: tls_cert and tls_key are needed";
  }
  const std::string detail = reason.empty() ? "" : absl::StrCat(" (", reason, ")");
  if (asked) {
    return absl::StrCat("it does not accept the certificate in ", files.cert, " (tls_cert)",
                        detail);
  }
  return absl::StrCat("it ends the TLS handshake", detail);
}

// The reason of the error that OpenSSL has kept, as a number.
int KeptReason() { return ERR_GET_REASON(ERR_peek_error()); }

bool IsAlert(int reason) { return reason >= kFirstAlert && reason <= kLastAlert; }

// Whether an operation has ended because the server said nothing within the limit.
bool IsSilent(const SSL* session, int result) {
  return SSL_get_error(session, result) == SSL_ERROR_WANT_READ;
}

int NoteQuestion(SSL* /*session*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return 1;
}

// While it lives, writing to a connection that the server has closed is an error and not the end of
// a process that, as command lines do, ends with SIGPIPE: OpenSSL writes without MSG_NOSIGNAL.
class SigpipeHeld {
 public:
  SigpipeHeld() {
    sigset_t waits;
    sigemptyset(&waits);
    sigpending(&waits);
    waited_ = sigismember(&waits, SIGPIPE) == 1;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~SigpipeHeld() {
    const timespec now{};
    if (!waited_) sigtimedwait(&pipe_, nullptr, &now);  // takes ours back
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SigpipeHeld(const SigpipeHeld&) = delete;
  SigpipeHeld& operator=(const SigpipeHeld&) = delete;

 private:
  bool waited_ = false;
  sigset_t pipe_{};
  sigset_t before_{};
};

std::string ExplainOneConnection(const TlsProbe& probe) {
  const absl::StatusOr<ListenAddress> parsed = ParseListenAddress(probe.address);
  if (!parsed.ok()) return "";  // a socket file
  const std::string host = BareHost(parsed->host);
  const std::string name = probe.name.empty() ? host : probe.name;
  const FileDescriptor connection = ConnectTo(host, parsed->port, probe.limit);
  if (!connection.is_open()) return "";
  ERR_clear_error();
  const OpensslPtr<SSL_CTX> context = MakeContext(probe.files);
  bool asked = false;
  SSL_CTX_set_cert_cb(context.get(), NoteQuestion, &asked);
  const OpensslPtr<SSL> session(SSL_new(context.get()));
  ExpectName(session.get(), name);
  SSL_set_fd(session.get(), connection.get());
  ERR_clear_error();
  const int connected = SSL_connect(session.get());
  if (probe.files.empty()) {
    const bool speaks_tls = connected == 1 || IsAlert(KeptReason());
    ERR_clear_error();
    return speaks_tls ? "it speaks TLS: tls_ca is needed" : "";
  }
  if (connected != 1) {
    if (IsSilent(session.get(), connected)) return "";
    const int kind = KeptReason();
    const std::string reason = TakeOpensslError();
    if (kind == SSL_R_WRONG_VERSION_NUMBER) return "it speaks no TLS: tls_ca must not be given";
    return ExplainRefusal(probe.files, asked, reason);
  }
  std::string wrong = ExplainCertificate(session.get(), probe, name);
  if (!wrong.empty()) return wrong;
  // In TLS 1.3 a server looks at the client's certificate after the client is done.
  char first = 0;
  const int got = SSL_read(session.get(), &first, 1);
  if (got > 0 || IsSilent(session.get(), got)) return "";
  return ExplainRefusal(probe.files, asked, TakeOpensslError());
}

}  // namespace

std::string ExplainTls(const TlsProbe& probe) {
  const SigpipeHeld held;
  std::string why = ExplainOneConnection(probe);
  // A server that ends breaks off handshakes, too; a moment later nobody listens there.
  if (why.empty() || ExplainOneConnection(probe) != why) return "";
  return why;
}

}  // namespace weft
