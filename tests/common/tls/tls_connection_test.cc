// Servers and channels with TLS, and what ExplainTls says when they do not find to each other.
#include <grpcpp/generic/generic_stub.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <memory>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status_macros.h"
#include "common/process/file_descriptor.h"
#include "common/rpc/grpc_channel.h"
#include "common/rpc/grpc_server.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/tls_credentials.h"
#include "common/tls/tls_probe.h"
#include "tests/testing/await.h"
#include "tests/testing/status_matchers.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_authority.h"
#include "weft/v1/peer.grpc.pb.h"

namespace weft {
namespace {

using ::testing::HasSubstr;
using weft::testing::IsOk;
using weft::testing::StatusIs;
using weft::testing::TestAuthority;
using weft::testing::TestSubject;

class Peer final : public v1::PeerService::CallbackService {
 public:
  grpc::ServerUnaryReactor* RunRelayDaemon(grpc::CallbackServerContext* context,
                                           const v1::RunRelayDaemonRequest* /*request*/,
                                           v1::RunRelayDaemonResponse* /*response*/) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

absl::Status Call(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  SetTimeout(context, absl::Seconds(20));
  v1::RunRelayDaemonResponse response;
  return FromGrpc(v1::PeerService::NewStub(channel)->RunRelayDaemon(
      &context, v1::RunRelayDaemonRequest(), &response));
}

// A client without a certificate of its own.
TlsFiles KnowsOnly(const std::string& ca) {
  TlsFiles files;
  files.ca = ca;
  return files;
}

std::string Explain(const std::string& address, const TlsFiles& files = {},
                    const std::string& name = "") {
  TlsProbe probe;
  probe.address = address;
  probe.files = files;
  probe.name = name;
  return ExplainTls(probe);
}

class TlsConnection : public ::testing::Test {
 protected:
  // `files` without `ca`: clients are asked for nothing.
  void Serve(const TlsFiles& files) {
    GrpcServer::Options options;
    ASSERT_OK_AND_ASSIGN(options.credentials, NewServerCredentials(files));
    ASSERT_OK_AND_ASSIGN(server_, GrpcServer::Start(options, {&peer_}));
  }
  [[nodiscard]] std::string Folder(const std::string& name) const {
    return (directory_.path() / name).string();
  }
  TlsFiles ServerFiles(const TestSubject& subject = {}) {
    return authority_.IssueTo(Folder("server"), subject);
  }
  [[nodiscard]] TlsFiles OnlyCertificate(TlsFiles files) const {
    files.ca.clear();
    return files;
  }

  absl::Status CallWith(const TlsFiles& files, const std::string& name = "") {
    ChannelOptions options;
    WEFT_ASSIGN_OR_RETURN(options.credentials, NewChannelCredentials(files));
    options.tls_name = name;
    return Call(NewChannel(server_->address(), options));
  }
  // Both together: that no call succeeds, and why.
  std::string WhyNot(const TlsFiles& files, const std::string& name = "") {
    EXPECT_THAT(CallWith(files, name), StatusIs(absl::StatusCode::kUnavailable));
    return Explain(server_->address(), files, name);
  }
  void ExpectGood(const TlsFiles& files, const std::string& name = "") {
    EXPECT_THAT(CallWith(files, name), IsOk());
    EXPECT_EQ(Explain(server_->address(), files, name), "");
  }

  const weft::testing::TempDir directory_;
  TestAuthority authority_;
  TestAuthority stranger_;
  Peer peer_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(TlsConnection, AClientThatKnowsTheAuthorityIsServed) {
  const TlsFiles files = ServerFiles();
  Serve(OnlyCertificate(files));
  ExpectGood(KnowsOnly(files.ca));
  ExpectGood(KnowsOnly(files.ca), "localhost");
}

TEST_F(TlsConnection, OfTwoPlainSidesNothingIsSaid) {
  Serve({});
  ExpectGood({});
}

TEST_F(TlsConnection, APlainClientIsTold) {
  Serve(OnlyCertificate(ServerFiles()));
  EXPECT_EQ(WhyNot({}), "it speaks TLS: tls_ca is needed");
}

TEST_F(TlsConnection, APlainClientOfAServerThatAsksForCertificatesIsTold) {
  Serve(ServerFiles());
  EXPECT_EQ(WhyNot({}), "it speaks TLS: tls_ca is needed");
}

TEST_F(TlsConnection, AClientOfAPlainServerIsTold) {
  Serve({});
  EXPECT_EQ(WhyNot(KnowsOnly(ServerFiles().ca)), "it speaks no TLS: tls_ca must not be given");
}

TEST_F(TlsConnection, AnotherAuthorityIsTold) {
  Serve(OnlyCertificate(ServerFiles()));
  const std::string other = stranger_.IssueTo(Folder("other")).ca;
  EXPECT_EQ(WhyNot(KnowsOnly(other)),
            absl::StrCat("its certificate is from no authority in ", other, " (tls_ca)"));
}

TEST_F(TlsConnection, AnotherNameIsTold) {
  const TlsFiles files = ServerFiles({.names = {"DNS:weft.lab", "IP:10.0.0.1"}});
  Serve(OnlyCertificate(files));
  EXPECT_EQ(WhyNot(KnowsOnly(files.ca)),
            "its certificate is for weft.lab, 10.0.0.1, not for 127.0.0.1; "
            "tls_name can name what to expect");
  ExpectGood(KnowsOnly(files.ca), "weft.lab");
}

TEST_F(TlsConnection, ACertificateThatExpiredMeanwhileIsTold) {
  const TlsFiles files = ServerFiles({.until = absl::Now() + absl::Seconds(2)});
  Serve(OnlyCertificate(files));
  ASSERT_TRUE(weft::testing::Await([&] { return !CallWith(KnowsOnly(files.ca)).ok(); }));
  EXPECT_THAT(WhyNot(KnowsOnly(files.ca)),
              HasSubstr("its certificate, or that of its authority, has expired; its own ends at"));
}

TEST_F(TlsConnection, AServerThatAsksForCertificatesTakesThoseOfItsAuthority) {
  Serve(ServerFiles());
  const TlsFiles client = authority_.IssueTo(Folder("client"));
  ExpectGood(client);
  EXPECT_EQ(WhyNot(KnowsOnly(client.ca)),
            "it asks for a certificate of the client: tls_cert and tls_key are needed");
  TlsFiles strange = stranger_.IssueTo(Folder("strange"));
  strange.ca = client.ca;
  EXPECT_THAT(WhyNot(strange), HasSubstr(absl::StrCat("it does not accept the certificate in ",
                                                      strange.cert, " (tls_cert)")));
}

TEST_F(TlsConnection, NobodyThereIsNoMatterOfTls) {
  Serve({});
  const std::string address = server_->address();
  server_.reset();
  EXPECT_EQ(Explain(address), "");
  EXPECT_EQ(Explain("unix:/nowhere"), "");
}

TEST_F(TlsConnection, AServerThatEndsIsNotTakenForOneThatRefuses) {
  FileDescriptor listening(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listening.get(), any, size), 0);
  ASSERT_EQ(getsockname(listening.get(), any, &size), 0);
  ASSERT_EQ(listen(listening.get(), 1), 0);
  std::thread server([&listening] {
    const FileDescriptor connection(accept(listening.get(), nullptr, nullptr));
    listening.Close();  // first, as a server does
  });
  EXPECT_EQ(Explain(absl::StrCat("127.0.0.1:", ntohs(address.sin_port)), ServerFiles()), "");
  server.join();
}

TEST_F(TlsConnection, RenewedFilesServeNewConnectionsAndOldOnesGoOn) {
  const TlsFiles server = ServerFiles();
  Serve(server);
  const TlsFiles client = authority_.IssueTo(Folder("client"));
  ChannelOptions options;
  ASSERT_OK_AND_ASSIGN(options.credentials, NewChannelCredentials(client));
  const auto old = NewChannel(server_->address(), options);
  ASSERT_OK(Call(old));
  // Another authority altogether: what was signed before is worth nothing to new connections.
  stranger_.IssueTo(Folder("server"));
  const TlsFiles renewed = stranger_.IssueTo(Folder("renewed"));
  EXPECT_TRUE(weft::testing::Await([&] { return CallWith(renewed).ok(); }));
  EXPECT_OK(Call(old));
  EXPECT_THAT(CallWith(client), StatusIs(absl::StatusCode::kUnavailable));
  // The channel's own files are watched, too: the same credentials make the next connection.
  stranger_.IssueTo(Folder("client"));
  options.tls_name = "localhost";  // another channel: gRPC shares connections between equal ones
  EXPECT_TRUE(
      weft::testing::Await([&] { return Call(NewChannel(server_->address(), options)).ok(); }));
}

TEST_F(TlsConnection, FilesThatDoNotDoAreRefusedAtOnce) {
  const TlsFiles files = ServerFiles();
  TlsFiles only_authority = KnowsOnly(files.ca);
  only_authority.ca_name = "tls_client_ca";
  EXPECT_THAT(NewServerCredentials(only_authority),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "tls_client_ca: needs tls_cert and tls_key beside it"));
  EXPECT_THAT(NewChannelCredentials(OnlyCertificate(files)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls_ca: is needed")));
  TlsFiles no_key = OnlyCertificate(files);
  no_key.key = files.ca;
  EXPECT_THAT(NewServerCredentials(no_key),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("tls_key: ")));
}

}  // namespace
}  // namespace weft
