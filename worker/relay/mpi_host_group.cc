#include "worker/relay/mpi_host_group.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

absl::Status ToStatus(int code, absl::string_view what) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  return absl::UnavailableError(
      absl::StrCat(what, ": ", absl::string_view(text.data(), static_cast<size_t>(length))));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiHostGroup>> MpiHostGroup::New() {
  int hosts = 0;
  int index = 0;
  WEFT_RETURN_IF_ERROR(ToStatus(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN),
                                "MPI_Comm_set_errhandler"));
  WEFT_RETURN_IF_ERROR(ToStatus(MPI_Comm_size(MPI_COMM_WORLD, &hosts), "MPI_Comm_size"));
  WEFT_RETURN_IF_ERROR(ToStatus(MPI_Comm_rank(MPI_COMM_WORLD, &index), "MPI_Comm_rank"));
  return std::unique_ptr<MpiHostGroup>(new MpiHostGroup(hosts, index));
}

absl::Status MpiHostGroup::StartReduce(CallOp op, absl::Span<const int32_t> from,
                                       absl::Span<int32_t> to) {
  const void* source = from.data() == to.data() ? MPI_IN_PLACE : from.data();
  return ToStatus(MPI_Iallreduce(source, to.data(), static_cast<int>(to.size()), MPI_INT32_T,
                                 op == CallOp::kSum ? MPI_SUM : MPI_MAX, MPI_COMM_WORLD, &request_),
                  "MPI_Iallreduce");
}

absl::Status MpiHostGroup::StartBroadcast(absl::Span<char> bytes, int root) {
  return ToStatus(MPI_Ibcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, root,
                             MPI_COMM_WORLD, &request_),
                  "MPI_Ibcast");
}

absl::Status MpiHostGroup::StartGather(absl::Span<const char> mine, absl::Span<char> all) {
  const int bytes = static_cast<int>(mine.size());
  return ToStatus(MPI_Iallgather(mine.data(), bytes, MPI_BYTE, all.data(), bytes, MPI_BYTE,
                                 MPI_COMM_WORLD, &request_),
                  "MPI_Iallgather");
}

absl::StatusOr<bool> MpiHostGroup::Poll() {
  int done = 0;
  WEFT_RETURN_IF_ERROR(ToStatus(MPI_Test(&request_, &done, MPI_STATUS_IGNORE), "MPI_Test"));
  return done != 0;
}

}  // namespace weft::worker
