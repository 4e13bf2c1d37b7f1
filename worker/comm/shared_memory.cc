#include "worker/comm/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "common/base/status_macros.h"

namespace weft::worker {
namespace {

absl::Status SystemError(int error, absl::string_view what, absl::string_view name) {
  const std::string text = absl::StrCat(what, " shared memory ", name);
  switch (error) {
    case ENOENT:
      return absl::UnavailableError(absl::StrCat(text, ": there is none of that name"));
    case EEXIST:
      return absl::AlreadyExistsError(absl::StrCat(text, ": the name is taken"));
    case ENOSPC:
    case ENOMEM:
    case EFBIG:
      return absl::ResourceExhaustedError(absl::StrCat(
          text, ": /dev/shm is full (a container's is small: docker run --shm-size=1g)"));
    default:
      return absl::ErrnoToStatus(error, text);
  }
}

absl::StatusOr<absl::Span<char>> Map(int file, int64_t bytes, const std::string& name) {
  void* address =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (address == MAP_FAILED) return SystemError(errno, "mapping", name);
  return absl::MakeSpan(static_cast<char*>(address), static_cast<size_t>(bytes));
}

}  // namespace

absl::StatusOr<SharedMemory> SharedMemory::Create(const std::string& name, int64_t bytes) {
  const int file = shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return SystemError(errno, "creating", name);
  const absl::Cleanup close_file = [file] { close(file); };
  absl::Cleanup remove_name = [&name] { shm_unlink(name.c_str()); };
  if (const int error = posix_fallocate(file, 0, bytes); error != 0) {
    return SystemError(error, absl::StrCat("reserving ", bytes, " bytes of"), name);
  }
  WEFT_ASSIGN_OR_RETURN(const absl::Span<char> mapped, Map(file, bytes, name));
  std::move(remove_name).Cancel();
  return SharedMemory(name, mapped, /*owner=*/true);
}

absl::StatusOr<SharedMemory> SharedMemory::Open(const std::string& name) {
  const int file = shm_open(name.c_str(), O_RDWR | O_CLOEXEC, 0);
  if (file < 0) return SystemError(errno, "opening", name);
  const absl::Cleanup close_file = [file] { close(file); };
  struct stat state {};
  if (fstat(file, &state) != 0) return SystemError(errno, "looking at", name);
  if (state.st_size == 0) {
    return absl::UnavailableError(absl::StrCat("shared memory ", name, " is not ready"));
  }
  WEFT_ASSIGN_OR_RETURN(const absl::Span<char> mapped, Map(file, state.st_size, name));
  return SharedMemory(name, mapped, /*owner=*/false);
}

absl::Status SharedMemory::Remove(const std::string& name) {
  if (shm_unlink(name.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return SystemError(errno, "removing", name);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : name_(std::move(other.name_)),
      bytes_(std::exchange(other.bytes_, {})),
      owner_(std::exchange(other.owner_, false)) {}

SharedMemory::~SharedMemory() {
  if (owner_) shm_unlink(name_.c_str());
  if (!bytes_.empty()) munmap(bytes_.data(), bytes_.size());
}

}  // namespace weft::worker
