//! `wasi:filesystem/types` as guests see it: Wasmtime's, with the quota of the scratch directory before all that writes.
//!
//! Of all that a guest can open, only what lies in its scratch directory may be written, and all of that came through
//! here: whatever can be written and is not known here is not written. A guest makes one call at a time, and where a
//! name is looked up before it is changed, nobody changes it in between. What goes on beside a call are writes of streams,
//! which take from the quota on their own.
//!
//! A file has one name, for there are no links: they are refused, and so no path leads out of the directory or around
//! the count. Nothing is written through to the disk on demand, for nothing here must outlive the host.

use super::{
    Identity, Scratch,
    quota::Content,
    stream::{Reader, Writer},
};
use crate::wasi::Wasi;
use std::{
    fs::File,
    io::{self, ErrorKind},
    sync::Arc,
};
use wasmtime::component::Resource;
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystemView as _},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult, IoError,
        bindings::filesystem::types::{
            self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
            DirectoryEntryStream, ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream,
            MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        },
    },
};

/// In the guest's words.
fn told(error: io::Error) -> FsError {
    match error.kind() {
        ErrorKind::StorageFull => ErrorCode::InsufficientSpace.into(),
        _ => error.into(),
    }
}

/// Waits for work that blocks a thread.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> FsResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(told),
        Err(error) => Err(FsError::trap(error)),
    }
}

/// The same descriptor, for one call more.
fn same(rep: u32) -> Resource<Descriptor> {
    Resource::new_borrow(rep)
}

impl Wasi {
    /// Whether the guest may write there: in its scratch directory, and nowhere else.
    fn is_scratch(&self, descriptor: &Resource<Descriptor>) -> FsResult<bool> {
        let perms = match self.table.get(descriptor)? {
            Descriptor::File(file) => file.perms,
            Descriptor::Dir(directory) => directory.perms,
        };
        Ok(!perms.write_not_permitted())
    }

    fn scratch(&mut self) -> FsResult<&mut Scratch> {
        Ok(self.scratch.as_mut().ok_or(ErrorCode::NotPermitted)?)
    }

    /// An open scratch file, and what counts it; `None` for all others.
    fn scratch_file(&self, descriptor: &Resource<Descriptor>) -> FsResult<Option<(Arc<File>, Arc<Content>)>> {
        let Descriptor::File(file) = self.table.get(descriptor)? else { return Ok(None) };
        if file.perms.write_not_permitted() {
            return Ok(None);
        }
        let content = self.scratch.as_ref().and_then(|scratch| scratch.open.get(&descriptor.rep()));
        let content = content.ok_or(ErrorCode::NotPermitted)?;
        Ok(Some((file.file.clone(), content.clone())))
    }

    /// Room for one more file or directory.
    fn room(&mut self) -> FsResult<Arc<Content>> {
        Content::new(&self.scratch()?.quota).map_err(told)
    }

    /// What stands under a path.
    async fn identity(&mut self, directory: u32, path: &str) -> FsResult<Identity> {
        let (flags, path) = (PathFlags::empty(), path.to_owned());
        let hash =
            HostDescriptor::metadata_hash_at(&mut self.filesystem(), same(directory), flags, path).await?;
        Ok((hash.lower, hash.upper))
    }

    /// A name is gone. What stood there counts until nothing has it open.
    fn forget(&mut self, identity: Identity) -> FsResult<()> {
        self.scratch()?.entries.remove(&identity);
        Ok(())
    }

    /// Opens something in the scratch directory.
    async fn open_scratch(
        &mut self,
        directory: u32,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let may_be_new =
            open_flags.contains(OpenFlags::CREATE) && self.identity(directory, &path).await.is_err();
        let room = if may_be_new { Some(self.room()?) } else { None };
        // A file is emptied after it was opened, where writes of streams to it are over.
        let truncates = open_flags.contains(OpenFlags::TRUNCATE);
        let (open_flags, flags) = match truncates {
            true => (open_flags & !OpenFlags::TRUNCATE, flags | DescriptorFlags::WRITE),
            false => (open_flags, flags),
        };
        let mut view = self.filesystem();
        let opening =
            HostDescriptor::open_at(&mut view, same(directory), path_flags, path, open_flags, flags);
        let opened = opening.await?;
        let rep = opened.rep();
        let file = match self.table.get(&opened)? {
            Descriptor::File(file) => file.file.clone(),
            Descriptor::Dir(_) => return Ok(opened),
        };
        let hash = HostDescriptor::metadata_hash(&mut self.filesystem(), same(rep)).await?;
        let identity = (hash.lower, hash.upper);
        let scratch = self.scratch()?;
        if let Some(room) = room {
            scratch.entries.entry(identity).or_insert(room);
        }
        let content = scratch.entries.get(&identity).ok_or(ErrorCode::NotPermitted)?.clone();
        scratch.open.insert(rep, content.clone());
        if truncates && let Err(error) = blocking(move || content.set_length(&file, 0)).await {
            HostDescriptor::drop(self, opened).map_err(FsError::trap)?;
            return Err(error);
        }
        Ok(opened)
    }
}

impl types::Host for Wasi {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.filesystem(), error)
    }

    fn filesystem_error_code(&mut self, error: Resource<IoError>) -> wasmtime::Result<Option<ErrorCode>> {
        let failure = self.table.get(&error)?.downcast_ref::<io::Error>();
        if failure.is_some_and(|failure| failure.kind() == ErrorKind::StorageFull) {
            return Ok(Some(ErrorCode::InsufficientSpace));
        }
        types::Host::filesystem_error_code(&mut self.filesystem(), error)
    }
}

impl HostDescriptor for Wasi {
    async fn advise(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
        length: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        HostDescriptor::advise(&mut self.filesystem(), file, offset, length, advice).await
    }

    async fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.sync(descriptor).await
    }

    async fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        HostDescriptor::get_flags(&mut self.filesystem(), descriptor).await
    }

    async fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        HostDescriptor::get_type(&mut self.filesystem(), descriptor).await
    }

    async fn set_size(&mut self, file: Resource<Descriptor>, bytes: Filesize) -> FsResult<()> {
        match self.scratch_file(&file)? {
            Some((file, content)) => blocking(move || content.set_length(&file, bytes)).await,
            None => HostDescriptor::set_size(&mut self.filesystem(), file, bytes).await,
        }
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        HostDescriptor::set_times(&mut self.filesystem(), descriptor, accessed, modified).await
    }

    async fn read(
        &mut self,
        file: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        HostDescriptor::read(&mut self.filesystem(), file, length, offset).await
    }

    async fn write(
        &mut self,
        file: Resource<Descriptor>,
        data: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let Some((file, content)) = self.scratch_file(&file)? else {
            return HostDescriptor::write(&mut self.filesystem(), file, data, offset).await;
        };
        let bytes = data.len() as u64;
        blocking(move || content.write(&file, Some(offset), &data)).await?;
        Ok(bytes)
    }

    async fn read_directory(
        &mut self,
        directory: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        HostDescriptor::read_directory(&mut self.filesystem(), directory).await
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        if self.is_scratch(&descriptor)? {
            return Ok(());
        }
        HostDescriptor::sync(&mut self.filesystem(), descriptor).await
    }

    async fn create_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        if !self.is_scratch(&directory)? {
            return HostDescriptor::create_directory_at(&mut self.filesystem(), directory, path).await;
        }
        let (room, rep) = (self.room()?, directory.rep());
        HostDescriptor::create_directory_at(&mut self.filesystem(), directory, path.clone()).await?;
        let identity = self.identity(rep, &path).await?;
        self.scratch()?.entries.entry(identity).or_insert(room);
        Ok(())
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        HostDescriptor::stat(&mut self.filesystem(), descriptor).await
    }

    async fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        HostDescriptor::stat_at(&mut self.filesystem(), directory, flags, path).await
    }

    async fn set_times_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let mut view = self.filesystem();
        HostDescriptor::set_times_at(&mut view, directory, flags, path, accessed, modified).await
    }

    /// Two names for one file: not in a scratch directory, and nowhere else either.
    async fn link_at(
        &mut self,
        _directory: Resource<Descriptor>,
        _flags: PathFlags,
        _path: String,
        _new_directory: Resource<Descriptor>,
        _new_path: String,
    ) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn open_at(
        &mut self,
        directory: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        if self.is_scratch(&directory)? {
            return self.open_scratch(directory.rep(), path_flags, path, open_flags, flags).await;
        }
        let mut view = self.filesystem();
        HostDescriptor::open_at(&mut view, directory, path_flags, path, open_flags, flags).await
    }

    async fn readlink_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<String> {
        HostDescriptor::readlink_at(&mut self.filesystem(), directory, path).await
    }

    async fn remove_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        if !self.is_scratch(&directory)? {
            return HostDescriptor::remove_directory_at(&mut self.filesystem(), directory, path).await;
        }
        let identity = self.identity(directory.rep(), &path).await?;
        HostDescriptor::remove_directory_at(&mut self.filesystem(), directory, path).await?;
        self.forget(identity)
    }

    async fn rename_at(
        &mut self,
        directory: Resource<Descriptor>,
        path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        // What is moved into the scratch directory or out of it is refused there.
        let replaced = match self.is_scratch(&directory)? && self.is_scratch(&new_directory)? {
            true => {
                let moved = self.identity(directory.rep(), &path).await?;
                let replaced = self.identity(new_directory.rep(), &new_path).await.ok();
                replaced.filter(|replaced| *replaced != moved)
            }
            false => None,
        };
        let mut view = self.filesystem();
        HostDescriptor::rename_at(&mut view, directory, path, new_directory, new_path).await?;
        match replaced {
            Some(replaced) => self.forget(replaced),
            None => Ok(()),
        }
    }

    /// A name for another path: it could lead out of a scratch directory, and nothing else can be written.
    async fn symlink_at(
        &mut self,
        _directory: Resource<Descriptor>,
        _to: String,
        _path: String,
    ) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn unlink_file_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        if !self.is_scratch(&directory)? {
            return HostDescriptor::unlink_file_at(&mut self.filesystem(), directory, path).await;
        }
        let identity = self.identity(directory.rep(), &path).await?;
        HostDescriptor::unlink_file_at(&mut self.filesystem(), directory, path).await?;
        self.forget(identity)
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let scratch = self.scratch_file(&file)?;
        let stream = HostDescriptor::read_via_stream(&mut self.filesystem(), file, offset)?;
        let Some((_, content)) = scratch else { return Ok(stream) };
        let inner = self.table.delete(stream)?;
        let reader: DynInputStream = Box::new(Reader::new(inner, content));
        Ok(self.table.push(reader)?)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let Some((file, content)) = self.scratch_file(&file)? else {
            return HostDescriptor::write_via_stream(&mut self.filesystem(), file, offset);
        };
        let writer: DynOutputStream = Box::new(Writer::new(file, content, Some(offset)));
        Ok(self.table.push(writer)?)
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let Some((file, content)) = self.scratch_file(&file)? else {
            return HostDescriptor::append_via_stream(&mut self.filesystem(), file);
        };
        let writer: DynOutputStream = Box::new(Writer::new(file, content, None));
        Ok(self.table.push(writer)?)
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        HostDescriptor::is_same_object(&mut self.filesystem(), one, other).await
    }

    async fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        HostDescriptor::metadata_hash(&mut self.filesystem(), descriptor).await
    }

    async fn metadata_hash_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        HostDescriptor::metadata_hash_at(&mut self.filesystem(), directory, flags, path).await
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        let rep = descriptor.rep();
        HostDescriptor::drop(&mut self.filesystem(), descriptor)?;
        if let Some(scratch) = &mut self.scratch {
            scratch.open.remove(&rep);
        }
        Ok(())
    }
}

impl HostDirectoryEntryStream for Wasi {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        HostDirectoryEntryStream::read_directory_entry(&mut self.filesystem(), stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.filesystem(), stream)
    }
}
