// Tells ThreadSanitizer what absl::Mutex, CondVar and Notification of the system's shared library
// do. That library is built without the sanitizer and waits on futexes, so the sanitizer would see
// no order between threads that meet there and report races that are none.
//
// Only in builds with -fsanitize=thread. The definitions here take the place of the library's, for
// our code and for the shared libraries that use it (gRPC above all); each finds the library's own
// and calls it between two annotations. What happens inside a lock or an unlock (conditions of
// other waiters are evaluated there) is ignored: pre- and post-annotations say so.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdio>
#include <cstdlib>

#include "absl/base/options.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace {

#define WEFT_TEXT_OF(x) #x
#define WEFT_TEXT(x) WEFT_TEXT_OF(x)
constexpr char kInline[] = WEFT_TEXT(ABSL_OPTION_INLINE_NAMESPACE_NAME);

// The library's function: "absl::<inline namespace>::" and the rest of its mangled name; `modifier`
// is "K" for const member functions.
void* Real(const char* modifier, const char* rest) {
  char name[256];
  std::snprintf(name, sizeof name, "_ZN%s4absl%zu%s%s", modifier, sizeof kInline - 1, kInline,
                rest);
  void* const found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) {
    std::fprintf(stderr, "no %s in the shared libraries\n", name);
    std::abort();
  }
  return found;
}

template <typename Function>
Function As(void* found) {
  return reinterpret_cast<Function>(found);
}

// The library's functions call each other through the definitions here. Only the outermost call of
// a thread is told to the sanitizer.
thread_local int calls = 0;
class Call {
 public:
  Call() { ++calls; }
  ~Call() { --calls; }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  [[nodiscard]] static bool IsInside() { return calls > 0; }
};

// An exclusive or a shared lock that a thread takes inside `call`.
template <typename Function>
void Locking(void* mutex, unsigned flags, Function call) {
  if (Call::IsInside()) return call();
  const Call outermost;
  __tsan_mutex_pre_lock(mutex, flags);
  call();
  __tsan_mutex_post_lock(mutex, flags, 0);
}

template <typename Function>
bool TryLocking(void* mutex, unsigned flags, Function call) {
  if (Call::IsInside()) return call();
  const Call outermost;
  __tsan_mutex_pre_lock(mutex, flags | __tsan_mutex_try_lock);
  const bool locked = call();
  __tsan_mutex_post_lock(
      mutex, flags | __tsan_mutex_try_lock | (locked ? 0U : unsigned{__tsan_mutex_try_lock_failed}),
      0);
  return locked;
}

template <typename Function>
void Unlocking(void* mutex, unsigned flags, Function call) {
  if (Call::IsInside()) return call();
  const Call outermost;
  __tsan_mutex_pre_unlock(mutex, flags);
  call();
  __tsan_mutex_post_unlock(mutex, flags);
}

// The mutex is held before and after `call` and may be given up inside.
template <typename Function>
auto Waiting(void* mutex, Function call) {
  if (Call::IsInside()) return call();
  const Call outermost;
  __tsan_mutex_pre_unlock(mutex, 0);
  __tsan_mutex_post_unlock(mutex, 0);
  __tsan_mutex_pre_lock(mutex, 0);
  auto result = call();
  __tsan_mutex_post_lock(mutex, 0, 0);
  return result;
}

// Where a Notification keeps its flag: behind its mutex.
const void* FlagOf(const absl::Notification* notification) {
  return reinterpret_cast<const char*>(notification) + sizeof(absl::Mutex);
}

constexpr unsigned kShared = __tsan_mutex_read_lock;

}  // namespace

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  static const auto real = As<void (*)(Mutex*)>(Real("", "5Mutex4LockEv"));
  Locking(this, 0, [this] { real(this); });
}

void Mutex::Unlock() {
  static const auto real = As<void (*)(Mutex*)>(Real("", "5Mutex6UnlockEv"));
  Unlocking(this, 0, [this] { real(this); });
}

bool Mutex::TryLock() {
  static const auto real = As<bool (*)(Mutex*)>(Real("", "5Mutex7TryLockEv"));
  return TryLocking(this, 0, [this] { return real(this); });
}

void Mutex::ReaderLock() {
  static const auto real = As<void (*)(Mutex*)>(Real("", "5Mutex10ReaderLockEv"));
  Locking(this, kShared, [this] { real(this); });
}

void Mutex::ReaderUnlock() {
  static const auto real = As<void (*)(Mutex*)>(Real("", "5Mutex12ReaderUnlockEv"));
  Unlocking(this, kShared, [this] { real(this); });
}

bool Mutex::ReaderTryLock() {
  static const auto real = As<bool (*)(Mutex*)>(Real("", "5Mutex13ReaderTryLockEv"));
  return TryLocking(this, kShared, [this] { return real(this); });
}

void Mutex::LockWhen(const Condition& condition) {
  static const auto real =
      As<void (*)(Mutex*, const Condition&)>(Real("", "5Mutex8LockWhenERKNS0_9ConditionE"));
  Locking(this, 0, [&] { real(this, condition); });
}

void Mutex::Await(const Condition& condition) {
  static const auto real =
      As<void (*)(Mutex*, const Condition&)>(Real("", "5Mutex5AwaitERKNS0_9ConditionE"));
  Waiting(this, [&] {
    real(this, condition);
    return true;
  });
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  static const auto real = As<bool (*)(Mutex*, const Condition&, Duration)>(
      Real("", "5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE"));
  return Waiting(this, [&] { return real(this, condition, timeout); });
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  static const auto real = As<bool (*)(Mutex*, const Condition&, Time)>(
      Real("", "5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE"));
  return Waiting(this, [&] { return real(this, condition, deadline); });
}

bool Mutex::LockWhenWithTimeout(const Condition& condition, Duration timeout) {
  static const auto real = As<bool (*)(Mutex*, const Condition&, Duration)>(
      Real("", "5Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE"));
  bool met = false;
  Locking(this, 0, [&] { met = real(this, condition, timeout); });
  return met;
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  static const auto real = As<bool (*)(Mutex*, const Condition&, Time)>(
      Real("", "5Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE"));
  bool met = false;
  Locking(this, 0, [&] { met = real(this, condition, deadline); });
  return met;
}

void CondVar::Wait(Mutex* mutex) {
  static const auto real = As<void (*)(CondVar*, Mutex*)>(Real("", "7CondVar4WaitEPNS0_5MutexE"));
  Waiting(mutex, [&] {
    real(this, mutex);
    return true;
  });
}

bool CondVar::WaitWithTimeout(Mutex* mutex, Duration timeout) {
  static const auto real = As<bool (*)(CondVar*, Mutex*, Duration)>(
      Real("", "7CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE"));
  return Waiting(mutex, [&] { return real(this, mutex, timeout); });
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  static const auto real = As<bool (*)(CondVar*, Mutex*, Time)>(
      Real("", "7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE"));
  return Waiting(mutex, [&] { return real(this, mutex, deadline); });
}

void Notification::Notify() {
  static const auto real = As<void (*)(Notification*)>(Real("", "12Notification6NotifyEv"));
  __tsan_release(const_cast<void*>(FlagOf(this)));
  real(this);
}

void Notification::WaitForNotification() const {
  static const auto real =
      As<void (*)(const Notification*)>(Real("K", "12Notification19WaitForNotificationEv"));
  real(this);
  __tsan_acquire(const_cast<void*>(FlagOf(this)));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  static const auto real = As<bool (*)(const Notification*, Duration)>(
      Real("K", "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE"));
  const bool notified = real(this, timeout);
  if (notified) __tsan_acquire(const_cast<void*>(FlagOf(this)));
  return notified;
}

bool Notification::WaitForNotificationWithDeadline(Time deadline) const {
  static const auto real = As<bool (*)(const Notification*, Time)>(
      Real("K", "12Notification31WaitForNotificationWithDeadlineENS0_4TimeE"));
  const bool notified = real(this, deadline);
  if (notified) __tsan_acquire(const_cast<void*>(FlagOf(this)));
  return notified;
}

ABSL_NAMESPACE_END
}  // namespace absl
