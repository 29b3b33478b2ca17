import Default, { Picom, PicomError } from '../../../index.mjs';

const one: Default = new Default('svc', { timeout: 5 });
const two: Picom = new Picom('svc');
const options: Picom.Options = { servers: 'memory://x' };

async function program(): Promise<number> {
	await using scoped = new Picom('svc', options);
	try {
		return await scoped.request<number>('svc.add', { a: 1 });
	} catch (error) {
		if (error instanceof PicomError) return error.status;
		throw error;
	}
}

export { one, two, program };
export const code = (error: PicomError): Default.ErrorCode => error.code;
