#include "base/current_error.h"

#include <new>
#include <system_error>

namespace xcomposer {

Error CurrentError() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::kCapacity, "out of memory");
  } catch (const std::system_error& error) {
    const bool full = error.code() == std::errc::resource_unavailable_try_again;
    return full ? Error(ErrorKind::kCapacity, "the system gives this process no more threads")
                : Error(ErrorKind::kInternal, error.what());
  } catch (const std::exception& error) {
    return Error(ErrorKind::kInternal, error.what());
  } catch (...) {
    return Error(ErrorKind::kInternal, "an exception of unknown type");
  }
}

}  // namespace xcomposer
