// A pretend accelerator: memory of the host under torch's PrivateUse1 key, with the rules of a GPU and a ledger.
//
// Every kernel is the CPU's, run on the same memory, so that numbers are real, autograd works and nothing is copied.
// What it has of a GPU: it refuses to mix devices and generators of the CPU, memory has an end, a value read back by
// the host is a copy or an item(), and every kernel is a launch. All of these are counted. There are two such devices.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <ATen/NativeFunctions.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/native/transformers/attention.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/library.h>

#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {
constexpr auto KIND = c10::DeviceType::PrivateUse1;
constexpr c10::DeviceIndex DEVICES = 2;
using Ints = c10::SymIntArrayRef;
using OptionalTensor = std::optional<at::Tensor>;

// ---- the ledger -----------------------------------------------------------------------------------------------------

struct Ledger {
  std::mutex lock;  // autograd has a thread for each device
  std::map<std::string, int64_t> launches;  // by the kernel's name
  std::map<std::string, int64_t> waits;     // of the host: "item", or a kernel whose output's size is a value
  int64_t to_host = 0, to_device = 0, draws = 0;
  int64_t synchronized[DEVICES] = {}, held[DEVICES] = {}, peak[DEVICES] = {}, room[DEVICES] = {};
  bool doubles = true;
};
Ledger ledger;

void launched(const std::string& name, int64_t times = 1) {
  std::lock_guard<std::mutex> hold(ledger.lock);
  ledger.launches[name] += times;
}
void waited(const std::string& name) {
  std::lock_guard<std::mutex> hold(ledger.lock);
  ledger.waits[name]++;
}
// kernels whose output has a size that only the device knows, so that a GPU's host waits for it
const std::set<std::string> SIZED_BY_VALUES{"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim",
                                            "aten::unique_consecutive", "aten::repeat_interleave.Tensor",
                                            "aten::bincount", "aten::equal"};

// ---- memory -------------------------------------------------------------------------------------------------------

thread_local c10::DeviceIndex current = 0;

struct Block {  // what a storage holds: memory of its own, or a storage that a kernel of the CPU has made
  void* own;
  c10::Storage made;
  size_t bytes;
  c10::DeviceIndex device;
};
void hold(size_t bytes, c10::DeviceIndex device) {
  std::lock_guard<std::mutex> guard(ledger.lock);
  const auto all = ledger.held[device] + static_cast<int64_t>(bytes);
  TORCH_CHECK_WITH(OutOfMemoryError, !ledger.room[device] || all <= ledger.room[device], "pretend:",
                   static_cast<int>(device), " is out of memory: ", bytes, " bytes asked for, ", ledger.held[device], " of ",
                   ledger.room[device], " held");
  ledger.held[device] = all;
  ledger.peak[device] = std::max(ledger.peak[device], all);
}
void release(void* pointer) {
  auto* block = static_cast<Block*>(pointer);
  {
    std::lock_guard<std::mutex> guard(ledger.lock);
    ledger.held[block->device] -= static_cast<int64_t>(block->bytes);
  }
  if (block->own) c10::free_cpu(block->own);
  delete block;
}
struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    hold(bytes, current);
    void* own = c10::alloc_cpu(bytes);
    return {own, new Block{own, {}, bytes, current}, &release, c10::Device(KIND, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
};
Memory memory;
REGISTER_ALLOCATOR(KIND, &memory);

struct On {  // the current device, for as long as this lives
  c10::DeviceIndex before = current;
  explicit On(c10::Device device) { current = device.has_index() ? device.index() : current; }
  ~On() { current = before; }
};

// ---- devices and generators -----------------------------------------------------------------------------------------

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return KIND; }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = current;
    current = device.index();
    return {KIND, before};
  }
  c10::Device getDevice() const override { return {KIND, current}; }
  void setDevice(c10::Device device) const override { current = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { current = device.index(); }
  c10::Stream getStream(c10::Device device) const override { return c10::Stream(c10::Stream::DEFAULT, device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return DEVICES; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  void synchronizeDevice(const c10::DeviceIndex device) const override {
    std::lock_guard<std::mutex> hold(ledger.lock);
    ledger.synchronized[device]++;
  }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Random final : at::CPUGeneratorImpl {
  explicit Random(c10::DeviceIndex device) {
    device_ = c10::Device(KIND, device);
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
  static void copy(at::CPUGeneratorImpl& from, at::CPUGeneratorImpl& to) {  // with the second value of a Box-Muller pair
    to.set_engine(from.engine());
    to.set_next_float_normal_sample(from.next_float_normal_sample());
    to.set_next_double_normal_sample(from.next_double_normal_sample());
  }

 private:
  Random* clone_impl() const override {
    auto* twin = new Random(device_.index());
    copy(const_cast<Random&>(*this), *twin);
    return twin;
  }
};
const at::Generator& default_generator(c10::DeviceIndex device) {
  static std::vector<at::Generator> all{at::make_generator<Random>(0), at::make_generator<Random>(1)};
  return all.at(device < 0 ? current : device);
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return DEVICES; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  void setCurrentDevice(c10::DeviceIndex device) const override { current = device; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex device) const override { return std::exchange(current, device); }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex device) const override { return std::exchange(current, device); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex device) const override { return default_generator(device); }
  at::Generator getNewGenerator(c10::DeviceIndex device) const override {
    return at::make_generator<Random>(device < 0 ? current : device);
  }
  at::Device getDeviceFromPtr(void*) const override { return {KIND, current}; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    On here(storage.device());
    at::native::resize_bytes_cpu(storage.unsafeGetStorageImpl(), bytes);
  }
};

// ---- the same memory as tensors of the device and of the CPU ----------------------------------------------------------

void refuse_doubles(at::ScalarType dtype) {
  TORCH_CHECK_TYPE(ledger.doubles || dtype != at::kDouble, "the pretend device has no float64, as some GPUs");
}

at::Tensor seen_as(c10::Storage storage, c10::DispatchKey key, const at::Tensor& like) {
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  return tensor;
}

at::Tensor host(const at::Tensor& tensor) {  // a tensor's memory, seen by the CPU
  if (!tensor.defined() || tensor.device().type() != KIND) return tensor;
  const auto& storage = tensor.storage();
  c10::DataPtr data(const_cast<void*>(storage.data()), c10::Device(c10::kCPU));
  c10::Storage alias(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), c10::GetCPUAllocator(), true);
  auto found = seen_as(std::move(alias), c10::DispatchKey::CPU, tensor);
  if (tensor.is_conj()) found._set_conj(true);
  if (tensor.is_neg()) found._set_neg(true);
  return found;
}

at::Tensor adopted(const at::Tensor& made, c10::Device device) {  // what a kernel of the CPU made, as the device's
  if (!made.defined()) return made;
  refuse_doubles(made.scalar_type());
  auto storage = made.storage();
  const auto bytes = storage.nbytes();
  hold(bytes, device.index());
  void* data = storage.mutable_data();
  c10::DataPtr kept(data, new Block{nullptr, std::move(storage), bytes, device.index()}, &release, device);
  On here(device);
  c10::Storage own(c10::Storage::use_byte_size_t(), bytes, std::move(kept), &memory, true);
  return seen_as(std::move(own), c10::DispatchKey::PrivateUse1, made);
}

at::Tensor empty(c10::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  On here(device.value_or(c10::Device(KIND, current)));
  refuse_doubles(c10::dtype_or_default(dtype));
  return at::detail::empty_generic(size, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}
at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  On here(device.value_or(c10::Device(KIND, current)));
  refuse_doubles(c10::dtype_or_default(dtype));
  return at::detail::empty_strided_generic(size, stride, &memory, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

// ---- copies, and what only looks at memory otherwise ------------------------------------------------------------------

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& to, bool) {
  const bool from_device = self.device().type() == KIND, to_device = to.device().type() == KIND;
  if (from_device && to_device) launched("copy");
  {
    std::lock_guard<std::mutex> guard(ledger.lock);
    ledger.to_host += from_device && !to_device;
    ledger.to_device += to_device && !from_device;
  }
  c10::impl::ExcludeDispatchKeyGuard no_autograd(c10::autograd_dispatch_keyset);
  host(to).copy_(host(self));
  return to;
}
at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& to) {
  if (to.sizes() != self.sizes()) to.resize_(self.sizes());
  return copy_from(self, to, false);
}
at::Scalar item(const at::Tensor& self) {
  waited("item");
  return host(self).item();
}
const at::Tensor& resize_(const at::Tensor& self, Ints size, std::optional<at::MemoryFormat>) {
  On here(self.device());
  at::native::resize_impl_cpu_(self.unsafeGetTensorImpl(), C10_AS_INTARRAYREF_SLOW(size), std::nullopt);
  return self;
}
at::Tensor as_strided(const at::Tensor& self, Ints size, Ints stride, std::optional<c10::SymInt> offset) {
  std::optional<int64_t> from;
  if (offset.has_value()) from = offset->expect_int();
  return at::native::as_strided_tensorimpl(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), from);
}
at::Tensor view(const at::Tensor& self, Ints size) { return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size)); }
at::Tensor reshape_alias(const at::Tensor& self, Ints size, Ints stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}
at::Tensor unfold(const at::Tensor& self, int64_t d, int64_t size, int64_t step) {
  return at::native::unfold(self, d, size, step);
}
at::Tensor& set_storage(at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size,
                        at::IntArrayRef stride) {
  On here(self.device());
  return at::native::set_storage_cpu_(self, std::move(source), offset, size, stride);
}

// ---- kernels ----------------------------------------------------------------------------------------------------------

void gather(const c10::IValue& value, std::vector<at::Tensor>& all) {
  if (value.isTensor()) {
    if (value.toTensor().defined()) all.push_back(value.toTensor());
  } else if (value.isTensorList()) {
    for (const auto& each : value.toTensorVector())
      if (each.defined()) all.push_back(each);
  } else if (value.isOptionalTensorList()) {
    for (const auto& each : value.toOptionalTensorList()) {
      OptionalTensor tensor = each;
      if (tensor.has_value() && tensor->defined()) all.push_back(*tensor);
    }
  }
}

bool takes_indices(const std::string& name) {  // CUDA takes the indices of these from the CPU
  for (const auto* each : {"aten::index.Tensor", "aten::index_put", "aten::_index_put", "aten::_unsafe_index"})
    if (name.rfind(each, 0) == 0) return true;
  return false;
}

c10::Device only_device(const std::vector<at::Tensor>& all, const std::string& name, c10::Device otherwise) {
  std::optional<c10::Device> found;
  for (const auto& each : all)
    if (each.device().type() == KIND && !found.has_value()) found = each.device();
  if (!found.has_value()) return otherwise;
  for (const auto& each : all) {
    const bool may = each.dim() == 0 || (takes_indices(name) && !each.is_same(all[0]));
    TORCH_CHECK(each.device() == *found || (each.device().is_cpu() && may),
                "Expected all tensors to be on the same device, but found at least two devices, ", *found, " and ",
                each.device(), "! (in ", name, ")");
  }
  return *found;
}

struct Lent {  // tensors of the device that a kernel of the CPU works on, beside what it sees of them
  std::vector<std::pair<at::Tensor, at::Tensor>> pairs;

  at::Tensor lend(const at::Tensor& tensor) {
    auto alias = host(tensor);
    if (tensor.defined() && tensor.device().type() == KIND) pairs.emplace_back(tensor, alias);
    return alias;
  }
  at::Tensor back(const at::Tensor& made, c10::Device device) const {
    if (!made.defined()) return made;
    for (const auto& [own, alias] : pairs) {
      if (made.is_same(alias)) return own;
      if (made.storage().is_alias_of(alias.storage()))
        return at::native::as_strided_tensorimpl(own, made.sizes(), made.strides(), made.storage_offset());
    }
    return adopted(made, device);
  }
  void settle() const {  // an output that was resized has moved
    for (const auto& [own, alias] : pairs) {
      if (alias.sizes() == own.sizes() && alias.storage().data() == own.storage().data()) continue;
      On here(own.device());
      at::native::resize_impl_cpu_(own.unsafeGetTensorImpl(), alias.sizes(), std::nullopt);
      host(own).copy_(alias);
    }
  }
};

c10::IValue lent_value(const c10::IValue& value, Lent& lent) {
  if (value.isTensor()) return lent.lend(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const auto& each : value.toTensorVector()) list.push_back(lent.lend(each));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<OptionalTensor> list;
    for (const auto& each : value.toOptionalTensorList()) {
      OptionalTensor tensor = each;
      list.push_back(tensor.has_value() ? OptionalTensor(lent.lend(*tensor)) : tensor);
    }
    return list;
  }
  return value;
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const auto& arguments = schema.arguments();
  const std::string name = schema.name() + (schema.overload_name().empty() ? "" : "." + schema.overload_name());
  const auto begin = stack->size() - arguments.size();
  std::vector<at::Tensor> all;
  c10::Device named(KIND, current);
  for (size_t i = 0; i < arguments.size(); i++) {
    const auto& value = (*stack)[begin + i];
    gather(value, all);
    if (value.isDevice() && value.toDevice().type() == KIND && value.toDevice().has_index()) named = value.toDevice();
  }
  const auto device = only_device(all, name, named);
  launched(name);
  if (SIZED_BY_VALUES.count(name)) waited(name);

  Lent lent;
  torch::jit::Stack inner;
  at::Generator own, on_cpu;
  for (size_t i = 0; i < arguments.size(); i++) {
    const auto& value = (*stack)[begin + i];
    if (arguments[i].type()->str().find("Generator") != std::string::npos) {
      own = value.isGenerator() ? value.toGenerator() : default_generator(device.index());
      TORCH_CHECK(own.device() == device, "Expected a '", device, "' generator but found '", own.device(), "' in ", name);
      on_cpu = at::make_generator<at::CPUGeneratorImpl>();
      Random::copy(*own.get<Random>(), *at::check_generator<at::CPUGeneratorImpl>(on_cpu));
      inner.emplace_back(on_cpu);
    } else if (value.isDevice()) {
      inner.emplace_back(c10::Device(c10::kCPU));
    } else {
      inner.push_back(lent_value(value, lent));
    }
  }
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &inner);
  if (own.defined()) {
    Random::copy(*at::check_generator<at::CPUGeneratorImpl>(on_cpu), *own.get<Random>());
    std::lock_guard<std::mutex> guard(ledger.lock);
    ledger.draws++;
  }
  lent.settle();
  torch::jit::drop(*stack, arguments.size());
  for (const auto& value : inner) {
    if (value.isTensor()) {
      stack->emplace_back(lent.back(value.toTensor(), device));
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const auto& each : value.toTensorVector()) list.push_back(lent.back(each, device));
      stack->emplace_back(list);
    } else {
      stack->push_back(value);
    }
  }
}

at::Tensor convolve(const at::Tensor& x, const at::Tensor& w, const OptionalTensor& b, Ints stride, Ints padding,
                    Ints dilation, bool transposed, Ints more, c10::SymInt groups) {
  std::vector<at::Tensor> all{x, w};
  if (b.has_value() && b->defined()) all.push_back(*b);
  const auto device = only_device(all, "convolution", x.device());
  launched("convolution");
  c10::impl::ExcludeDispatchKeyGuard no_autograd(c10::autograd_dispatch_keyset);
  const OptionalTensor bias = b.has_value() ? OptionalTensor(host(*b)) : b;
  return adopted(
      at::convolution_symint(host(x), host(w), bias, stride, padding, dilation, transposed, more, groups), device);
}
std::tuple<at::Tensor, at::Tensor, at::Tensor> convolve_backward(const at::Tensor& g, const at::Tensor& x,
                                                                 const at::Tensor& w, Ints stride, Ints padding,
                                                                 Ints dilation, bool transposed, Ints more,
                                                                 c10::SymInt groups, std::array<bool, 3> wanted) {
  const auto device = only_device({g, x, w}, "convolution_backward", x.device());
  launched("convolution_backward", wanted[0] + wanted[1] + wanted[2]);
  c10::impl::ExcludeDispatchKeyGuard no_autograd(c10::autograd_dispatch_keyset);
  std::vector<c10::SymInt> sizes{g.sym_size(1)};
  auto [a, b, c] = at::convolution_backward_symint(host(g), host(x), host(w), at::OptionalSymIntArrayRef(sizes), stride,
                                                   padding, dilation, transposed, more, groups, wanted);
  return {adopted(a, device), adopted(b, device), adopted(c, device)};
}
int64_t attention(const at::Tensor&, const at::Tensor&, const at::Tensor&, const OptionalTensor&, double, bool,
                  std::optional<double>, bool) {
  return 0;  // by products of matrices
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", item);
  m.impl("resize_", resize_);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("unfold", unfold);
  m.impl("set_.source_Storage", [](at::Tensor& self, at::Storage source) -> at::Tensor& {
    return at::native::set_(self, std::move(source));
  });
  m.impl("set_.source_Storage_storage_offset", set_storage);
  m.impl("set_.source_Tensor", [](at::Tensor& self, const at::Tensor& source) -> at::Tensor& {
    return at::native::set_tensor_(self, source);
  });
  m.impl("convolution_overrideable", convolve);
  m.impl("convolution_backward_overrideable", convolve_backward);
}

// ---- autocast: the products of a GPU in the lower precision, its sums and exponentials in float32 ---------------------

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define FULL(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define FULL_UNLESS_TOLD(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  AT_FORALL_LOWER_PRECISION_FP(LOWER)
  AT_FORALL_FP32(FULL)
  AT_FORALL_FP32_SET_OPT_DTYPE(FULL_UNLESS_TOLD)
  AT_FORALL_PROMOTE(WIDEST)
}
}  // namespace

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &attention)
}

// ---- for Python -------------------------------------------------------------------------------------------------------

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  m.attr("DEVICES") = static_cast<int>(DEVICES);
  m.def("launches", [] { return ledger.launches; });
  m.def("waits", [] { return ledger.waits; });
  m.def("figures", [] {
    return std::map<std::string, int64_t>{
        {"to_host", ledger.to_host}, {"to_device", ledger.to_device}, {"draws", ledger.draws}};
  });
  m.def("reset", [] {
    std::lock_guard<std::mutex> hold(ledger.lock);
    ledger.launches.clear();
    ledger.waits.clear();
    ledger.to_host = ledger.to_device = ledger.draws = 0;
    for (auto& each : ledger.synchronized) each = 0;
  });
  m.def("synchronized", [](int device) { return ledger.synchronized[device]; });
  m.def("held", [](int device) { return ledger.held[device]; });
  m.def("peak", [](int device) { return ledger.peak[device]; });
  m.def("forget_peak", [](int device) { ledger.peak[device] = ledger.held[device]; });
  m.def("limit", [](int device, int64_t bytes) { ledger.room[device] = bytes; }, "0: no limit");
  m.def("doubles", [](bool there) { ledger.doubles = there; });
  m.def("current", [] { return static_cast<int>(current); });
  m.def("set_current", [](int device) { current = static_cast<c10::DeviceIndex>(device); });
  m.def("seed", [](uint64_t seed) {
    for (c10::DeviceIndex each = 0; each < DEVICES; each++) {
      auto generator = default_generator(each);
      generator.set_current_seed(seed);
    }
  });
}
