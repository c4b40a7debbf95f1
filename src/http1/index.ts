/**
 * HTTP/1.1 as bytes: heads found and checked, bodies cut out of a stream, heads written anew, in both directions
 * (RFC 9110, RFC 9112). Pure: bytes in, bytes and values out. It knows nothing of sockets, of routes, of who asks or of
 * what a resource is. What it lets through, every reader takes the same way; what it does not is an `HttpFault`.
 */
export { type Body, bodyOf } from './body.ts'
export { bad, HttpFault } from './fault.ts'
export { fieldText } from './field-text.ts'
export { type FieldList, requestFields, responseFields, trailerFields } from './fields.ts'
export { normalizeHost } from './host.ts'
export { Field, plainName } from './names.ts'
export { routingPath, stripPath } from './path.ts'
export { HeadReader } from './reader.ts'
export { RequestHead } from './request.ts'
export { ResponseHead } from './response.ts'
export { type RequestChanges, type ResponseChanges, writeRequest, writeResponse } from './write.ts'
