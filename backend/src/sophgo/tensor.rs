// SPDX-License-Identifier: MPL-2.0

//! Device memory with a type and a shape, and the nets that take it.

use std::ffi::CString;

use sophgo_sys::ArgumentError;
use sophgo_sys::bindings::{bm_data_type_t, bm_device_mem_t, bm_shape_t, bm_tensor_t};

use super::bmodel::DataType;
use super::error::Error;

/// A piece of device memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mem {
    pub(super) raw: bm_device_mem_t,
    pub(super) board: u32,
}

impl Mem {
    /// Its length.
    pub(super) fn size_bytes(self) -> usize {
        self.raw.size as usize
    }

    /// The `size` bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Api`] if they reach beyond the end.
    pub(super) fn part(self, offset: usize, size: usize) -> Result<Self, Error> {
        let part = self
            .raw
            .part(offset, size)
            .ok_or(ArgumentError::OutOfRange {
                op: "part of device memory",
                offset,
                len: size,
                size: self.size_bytes(),
            })
            .map_err(sophgo_sys::Error::from)?;
        Ok(Self {
            raw: part,
            board: self.board,
        })
    }
}

/// Memory with a type and a shape: an argument of a launch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arg {
    pub mem: Mem,
    pub dtype: DataType,
    pub(super) dims: [i32; 8],
    pub(super) n_dims: usize,
}

impl Arg {
    /// # Errors
    /// [`Error::Api`] if a dimension does not fit 32 bits or the shape is larger than the memory:
    /// the library would end the process at the latter.
    pub(super) fn new(mem: Mem, dtype: DataType, shape: &[usize]) -> Result<Self, Error> {
        let mut dims = [0; 8];
        let mut bytes = dtype.size_bytes();
        for (dim, &n) in dims.iter_mut().zip(shape) {
            *dim = i32::try_from(n).map_err(|_| too_large(n))?;
            bytes = bytes.checked_mul(n).ok_or_else(|| too_large(n))?;
        }
        mem.part(0, bytes)?;
        Ok(Self {
            mem,
            dtype,
            dims,
            n_dims: shape.len().min(8),
        })
    }

    /// As the library takes it.
    pub(super) fn tensor(&self) -> bm_tensor_t {
        let mut shape = bm_shape_t {
            // At most eight.
            num_dims: self.n_dims as i32,
            ..bm_shape_t::default()
        };
        shape.dims = self.dims;
        bm_tensor_t {
            dtype: to_raw(self.dtype),
            shape,
            device_mem: self.mem.raw,
            ..bm_tensor_t::default()
        }
    }
}

fn too_large(value: usize) -> sophgo_sys::Error {
    let op = "shape of a tensor";
    ArgumentError::TooLarge { op, value }.into()
}

fn to_raw(dtype: DataType) -> bm_data_type_t {
    match dtype {
        DataType::F32 => bm_data_type_t::BM_FLOAT32,
        DataType::F16 => bm_data_type_t::BM_FLOAT16,
        DataType::I32 => bm_data_type_t::BM_INT32,
        DataType::Bf16 => bm_data_type_t::BM_BFLOAT16,
        DataType::Other(code) => bm_data_type_t(code),
    }
}

/// A type by the library's number.
pub(super) fn from_raw(dtype: bm_data_type_t) -> DataType {
    match dtype {
        bm_data_type_t::BM_FLOAT32 => DataType::F32,
        bm_data_type_t::BM_FLOAT16 => DataType::F16,
        bm_data_type_t::BM_INT32 => DataType::I32,
        bm_data_type_t::BM_BFLOAT16 => DataType::Bf16,
        other => DataType::Other(other.0),
    }
}

/// A compiled input or output: its type, shape and place.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub dtype: DataType,
    pub shape: Vec<usize>,
    pub mem: Mem,
}

impl Port {
    /// The compiled memory with the compiled shape.
    pub(super) fn whole(&self) -> Result<Arg, Error> {
        self.bound(self.mem)
    }

    /// Other memory with the compiled shape.
    pub(super) fn bound(&self, mem: Mem) -> Result<Arg, Error> {
        Arg::new(mem, self.dtype, &self.shape)
    }

    /// Other memory with another shape.
    pub(super) fn shaped(&self, mem: Mem, shape: &[usize]) -> Result<Arg, Error> {
        Arg::new(mem, self.dtype, shape)
    }

    /// Numbers of the compiled shape.
    pub(super) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the compiled shape.
    pub(super) fn size_bytes(&self) -> usize {
        self.elements() * self.dtype.size_bytes()
    }
}

/// One stage of a loaded net.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

/// A loaded net.
#[derive(Debug, Clone)]
pub(super) struct LoadedNet {
    pub(super) name: CString,
    pub(super) board: u32,
    pub(super) is_dynamic: bool,
    /// Cores that each stage runs on.
    pub(super) cores: Vec<u32>,
    /// Its stages, in the file's order.
    pub stages: Vec<Ports>,
}

impl LoadedNet {
    /// Whether launches may be smaller than compiled.
    pub(super) fn is_dynamic(&self) -> bool {
        self.is_dynamic
    }
}

/// The library compares memory with what a net was compiled for in units of this.
const PAGE_BYTES: usize = 4096;

/// Whether arguments are what a stage was compiled for: as many, of the same types, of the same
/// shape or (in a dynamic net) of one without a larger dimension. Memory of a dynamic launch must hold
/// the compiled shape all the same: the library throws otherwise.
pub(super) fn check(net: &LoadedNet, ports: &[Port], args: &[Arg]) -> Result<(), String> {
    if ports.len() != args.len() {
        return Err(format!("{} tensors for {}", args.len(), ports.len()));
    }
    for (port, arg) in ports.iter().zip(args) {
        let dims = &arg.dims[..arg.n_dims];
        let fits = |(&got, &max): (&i32, &usize)| {
            usize::try_from(got).is_ok_and(|got| got == max || net.is_dynamic && got <= max)
        };
        if port.dtype != arg.dtype
            || port.shape.len() != dims.len()
            || !dims.iter().zip(&port.shape).all(fits)
        {
            return Err(format!(
                "a tensor {:?} {:?} for {:?} {:?}",
                arg.dtype, dims, port.dtype, port.shape
            ));
        }
        let (got, want) = (arg.mem.size_bytes(), port.size_bytes());
        if net.is_dynamic && got.next_multiple_of(PAGE_BYTES) < want {
            return Err(format!("memory of {got} bytes for {want}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mem(size: u32) -> Mem {
        let raw = bm_device_mem_t {
            size,
            ..bm_device_mem_t::default()
        };
        Mem { raw, board: 1 }
    }

    fn port(dtype: DataType, shape: &[usize]) -> Port {
        let shape = shape.to_vec();
        let mem = mem(1 << 20);
        Port { dtype, shape, mem }
    }

    fn net(is_dynamic: bool) -> LoadedNet {
        LoadedNet {
            name: CString::default(),
            board: 1,
            is_dynamic,
            cores: Vec::new(),
            stages: Vec::new(),
        }
    }

    /// What is said of an argument for a port of `[1, 8, 4]` bf16.
    fn refusal(is_dynamic: bool, dtype: DataType, shape: &[usize], size: u32) -> String {
        let ports = [port(DataType::Bf16, &[1, 8, 4])];
        let arg = Arg::new(mem(size), dtype, shape).unwrap();
        match check(&net(is_dynamic), &ports, &[arg]) {
            Ok(()) => String::new(),
            Err(what) => what,
        }
    }

    #[test]
    fn a_launch_takes_what_it_was_compiled_for() {
        assert_eq!(refusal(false, DataType::Bf16, &[1, 8, 4], 64), "");
        assert_eq!(refusal(true, DataType::Bf16, &[1, 3, 4], 64), "");
        let none = check(&net(false), &[port(DataType::I32, &[1])], &[]);
        assert_eq!(none.unwrap_err(), "0 tensors for 1");
    }

    #[test]
    fn what_the_library_would_throw_at_is_refused() {
        let other = "a tensor Bf16 [1, 3, 4] for Bf16 [1, 8, 4]";
        assert_eq!(refusal(false, DataType::Bf16, &[1, 3, 4], 64), other);
        let larger = "a tensor Bf16 [1, 9, 4] for Bf16 [1, 8, 4]";
        assert_eq!(refusal(true, DataType::Bf16, &[1, 9, 4], 128), larger);
        let flat = "a tensor Bf16 [8, 4] for Bf16 [1, 8, 4]";
        assert_eq!(refusal(true, DataType::Bf16, &[8, 4], 64), flat);
        let half = "a tensor F16 [1, 8, 4] for Bf16 [1, 8, 4]";
        assert_eq!(refusal(false, DataType::F16, &[1, 8, 4], 64), half);
        // A dynamic launch must be shown room for the compiled shape, in whole pages.
        let ports = [port(DataType::Bf16, &[1, 4096, 4])];
        let arg = Arg::new(mem(64), DataType::Bf16, &[1, 8, 4]).unwrap();
        let got = check(&net(true), &ports, &[arg]);
        assert_eq!(got.unwrap_err(), "memory of 64 bytes for 32768");
    }

    #[test]
    fn a_shape_larger_than_its_memory_is_no_argument() {
        assert!(Arg::new(mem(63), DataType::Bf16, &[1, 8, 4]).is_err());
        assert!(Arg::new(mem(64), DataType::Bf16, &[1 << 31]).is_err());
        assert!(Arg::new(mem(64), DataType::F32, &[1 << 30, 1 << 30, 1 << 30]).is_err());
        assert!(mem(64).part(60, 8).is_err());
        assert_eq!(mem(64).part(60, 4).unwrap().size_bytes(), 4);
    }
}
