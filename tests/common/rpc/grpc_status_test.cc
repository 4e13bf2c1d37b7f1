#include "common/rpc/grpc_status.h"

#include "absl/strings/str_cat.h"
#include "common/rpc/field_violations.h"
#include "tests/testing/status_matchers.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::IsOk;

TEST(GrpcStatusTest, CodesAndMessagesSurviveTheWay) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), code == 0 ? "" : "why");
    EXPECT_EQ(FromGrpc(ToGrpc(status)), status);
    EXPECT_EQ(static_cast<int>(ToGrpc(status).error_code()), code);
  }
}

TEST(GrpcStatusTest, FieldViolationsSurviveTheWay) {
  const FieldViolation width = {"spec.model.width", "must be at least 1"};
  const FieldViolation name = {"spec.name", "is required"};
  const absl::Status status = FromGrpc(ToGrpc(InvalidFields({width, name})));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "spec.model.width: must be at least 1\nspec.name: is required");
  EXPECT_THAT(FieldViolationsOf(status), ElementsAre(width, name));
}

// What any other client expects: google.rpc.Status{3, "f: d", Any{BadRequest{FieldViolation{"f",
// "d"}}}}, written out by hand after the published definitions.
TEST(GrpcStatusTest, DetailsHaveTheStandardWireForm) {
  const std::string violation = std::string("\x0a\x01") + "f" + "\x12\x01" + "d";
  const std::string bad_request = std::string("\x0a\x06") + violation;
  const std::string url = "type.googleapis.com/google.rpc.BadRequest";
  const std::string any = absl::StrCat("\x0a", std::string(1, static_cast<char>(url.size())), url,
                                       "\x12\x08", bad_request);
  const std::string expected = absl::StrCat("\x08\x03\x12\x04", "f: d", "\x1a",
                                            std::string(1, static_cast<char>(any.size())), any);
  EXPECT_EQ(ToGrpc(InvalidField("f", "d")).error_details(), expected);
}

TEST(GrpcStatusTest, NoViolationsIsOk) { EXPECT_THAT(InvalidFields({}), IsOk()); }

TEST(GrpcStatusTest, OtherStatusesCarryNoViolations) {
  EXPECT_THAT(FieldViolationsOf(absl::InternalError("x")), IsEmpty());
  absl::Status damaged = absl::InvalidArgumentError("x");
  damaged.SetPayload(kBadRequestTypeUrl, absl::Cord("\xff\xff"));
  EXPECT_THAT(FieldViolationsOf(damaged), IsEmpty());
  EXPECT_EQ(FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "x", "\xff\xff")),
            absl::InternalError("x"));
}

TEST(GrpcStatusTest, ErrorsFitIntoTrailers) {
  std::vector<FieldViolation> violations;
  violations.reserve(1000);
  for (int i = 0; i < 1000; ++i) violations.push_back({absl::StrCat("field", i), "is wrong"});
  const grpc::Status status = ToGrpc(InvalidFields(violations));
  EXPECT_LE(status.error_message().size() + status.error_details().size() * 4 / 3, 7500U);
  EXPECT_THAT(status.error_message(), HasSubstr("field0: is wrong"));
  EXPECT_THAT(status.error_message(), EndsWith(" more bytes)"));
  EXPECT_FALSE(FieldViolationsOf(FromGrpc(status)).empty());
  // Letters that are percent-encoded count threefold, and none is cut in two.
  std::string umlauts;
  for (int i = 0; i < 2000; ++i) umlauts += "ü";
  EXPECT_THAT(ToGrpc(absl::InternalError(umlauts)).error_message(), HasSubstr("ü ... ("));
  EXPECT_LE(ToGrpc(absl::InternalError(umlauts)).error_message().size(), 1100U);
}

}  // namespace
}  // namespace weft
