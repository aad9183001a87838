//! Files that are no plugins: each is refused with a stable code, in a child process that cannot hurt its parent.
//!
//! This program is its own child, so it has no harness: `files compile-plugin <wasm> <cache>` compiles, anything
//! else runs the tests.

mod support;

use std::{path::Path, process::ExitCode, time::Instant};
use support::{Bench, begin, guest, guest_importing, limits, resident_bytes};
use waymark_sandbox::{Compiled, Grants, LoadError, Outcome, compile_in_child, compile_main};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|verb| verb == "compile-plugin") {
        return compile_main(Path::new(&arguments[2]), Path::new(&arguments[3]));
    }
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    macro_rules! run {
        ($($test:ident)*) => {$(
            println!("test {} ...", stringify!($test));
            runtime.block_on($test());
        )*};
    }
    run! {
        a_plugin_is_compiled_once_and_loaded_by_anybody
        a_file_that_is_no_plugin_is_refused_with_its_reason
        imports_are_checked_before_anything_runs
        every_truncation_is_refused
        damaged_code_is_not_run
        a_compile_bomb_costs_only_itself
        many_functions_are_no_bomb
    }
    println!("test result: ok");
    ExitCode::SUCCESS
}

async fn compile(bench: &Bench, bytes: &[u8]) -> Result<Compiled, LoadError> {
    let exe = std::env::current_exe().expect("this program");
    compile_in_child(&exe, &bench.file(bytes), &bench.cache()).await
}

async fn code(bench: &Bench, bytes: &[u8]) -> &'static str {
    let error = compile(bench, bytes).await.expect_err("it is refused");
    println!("    {}: {error}", error.code());
    error.code()
}

async fn a_plugin_is_compiled_once_and_loaded_by_anybody() {
    let bench = Bench::new();
    let compiled = compile(&bench, &guest(&[])).await.unwrap();
    assert_eq!(compiled.descriptor.name, "hostile");
    assert!(compiled.imports.iter().any(|import| import == "waymark:task/job@0.1.0"));
    assert!(bench.engine.is_cached(&bench.cache(), &compiled.digest));
    assert_eq!(compile(&bench, &guest(&[])).await.unwrap(), compiled);
    for engine in [bench.engine.clone(), Bench::new().engine] {
        let plugin = engine.load(&bench.cache(), &compiled.digest, limits(), Grants::default()).unwrap();
        assert_eq!(begin(&plugin).await.unwrap().step().await.unwrap(), Outcome::Completed("{}".into()));
    }
}

async fn a_file_that_is_no_plugin_is_refused_with_its_reason() {
    let bench = Bench::new();
    assert_eq!(code(&bench, b"#!/bin/sh\necho no").await, "not-wasm");
    assert_eq!(code(&bench, &[0x5a; 100_000]).await, "not-wasm");
    assert_eq!(code(&bench, b"").await, "truncated");
    assert_eq!(code(&bench, b"\0as").await, "truncated");
    assert_eq!(code(&bench, &wat::parse_str("(module)").unwrap()).await, "no-world");
    let library = wat::parse_str("(module (import \"env\" \"f\" (func)) (func (export \"add\")))").unwrap();
    assert_eq!(code(&bench, &library).await, "no-world");
    let preview1 =
        wat::parse_str("(module (import \"wasi_snapshot_preview1\" \"fd_write\" (func)))").unwrap();
    assert_eq!(code(&bench, &preview1).await, "no-world");
    assert_eq!(code(&bench, &wat::parse_str("(component)").unwrap()).await, "no-world");
    let nonsense = [b"\0asm\x0d\0\x01\0".as_slice(), &[0xff; 64]].concat();
    assert_eq!(code(&bench, &nonsense).await, "invalid-wasm");
    assert_eq!(code(&bench, &precompiled(&bench)).await, "precompiled");
    assert_eq!(code(&bench, &guest(&[("describe", "unreachable")])).await, "describe-failed");
    let name = "(i32.store8 (i32.const 2048) (i32.const 72))";
    assert_eq!(code(&bench, &guest(&[("describe", name)])).await, "bad-descriptor");
    let long = "(i32.store (i32.const 1028) (i32.const 0x7fffffff))";
    assert_eq!(code(&bench, &guest(&[("describe", long)])).await, "describe-failed");
    let missing =
        compile_in_child(&std::env::current_exe().unwrap(), Path::new("/nowhere.wasm"), &bench.cache()).await;
    assert_eq!(missing.unwrap_err().code(), "host-error");
}

/// What stands in the cache, brought as if it were a plugin.
fn precompiled(bench: &Bench) -> Vec<u8> {
    let digest = bench.compile(&guest(&[])).unwrap();
    let engines = std::fs::read_dir(bench.cache()).unwrap();
    let directory = engines.map(|entry| entry.unwrap().path()).next().unwrap();
    std::fs::read(directory.join(format!("{digest}.cwasm"))).unwrap()
}

async fn imports_are_checked_before_anything_runs() {
    let bench = Bench::new();
    let missiles = "acme:missiles/launcher@1.0.0";
    let launch = format!("(import \"{missiles}\" \"launch\" (func $launch (param i32 i32)))");
    let error = compile(&bench, &guest_importing(&[("imports", &launch)], &[missiles])).await.unwrap_err();
    println!("    {}: {error}", error.code());
    assert_eq!(error.code(), "unknown-import");
    assert!(error.to_string().contains(missiles), "{error}");
}

async fn every_truncation_is_refused() {
    let bench = Bench::new();
    let module = guest(&[]);
    let component = wit_component::ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .unwrap();
    for whole in [module, component] {
        for tenth in 1..10 {
            let part = &whole[..whole.len() * tenth / 10];
            let error = bench.compile(part).unwrap_err();
            assert_eq!(error.code(), "truncated", "{tenth} tenths: {error}");
        }
    }
}

async fn damaged_code_is_not_run() {
    let bench = Bench::new();
    let compiled = compile(&bench, &guest(&[])).await.unwrap();
    let load = || bench.engine.load(&bench.cache(), &compiled.digest, limits(), Grants::default());
    let directory = std::fs::read_dir(bench.cache()).unwrap().next().unwrap().unwrap().path();
    let code = directory.join(format!("{}.cwasm", compiled.digest));
    let mut bytes = std::fs::read(&code).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&code, bytes).unwrap();
    assert_eq!(load().unwrap_err().code(), "cache-damaged");
    assert_eq!(compile(&bench, &guest(&[])).await.unwrap(), compiled, "it is compiled again");
    load().unwrap();
    std::fs::write(directory.join(format!("{}.json", compiled.digest)), "{").unwrap();
    assert_eq!(load().unwrap_err().code(), "cache-damaged");
    let elsewhere = bench.engine.load(&bench.cache(), "../../etc/passwd", limits(), Grants::default());
    assert_eq!(elsewhere.unwrap_err().code(), "not-compiled");
}

/// One function with so many blocks and values that the compiler's memory grows with their product.
async fn a_compile_bomb_costs_only_itself() {
    let bench = Bench::new();
    let mut body = String::new();
    for number in 0..50_000 {
        body.push_str(&format!("(local $l{number} i64)"));
    }
    for number in 0..250_000_u64 {
        let (from, to) = (number * 7919 % 50_000, number * 104_729 % 50_000);
        body.push_str(&format!(
            "(if (i32.load8_u (i32.const {})) (then (local.set $l{to} (i64.add (local.get $l{from}) (i64.const {number})))))",
            number % 60_000
        ));
    }
    let bomb = guest(&[("functions", &format!("(func $bomb (export \"bomb\") {body})"))]);
    let (before, from) = (resident_bytes(), Instant::now());
    let error = compile(&bench, &bomb).await.unwrap_err();
    println!("    {} after {:?}: {error}", error.code(), from.elapsed());
    assert_eq!(error.code(), "compile-limit");
    assert!(resident_bytes() < before + (64 << 20));
}

async fn many_functions_are_no_bomb() {
    let bench = Bench::new();
    let functions: String =
        (0..20_000).map(|number| format!("(func (result i32) (i32.const {number}))")).collect();
    compile(&bench, &guest(&[("functions", &functions)])).await.unwrap();
}
